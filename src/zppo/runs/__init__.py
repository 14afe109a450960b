"""Runs: what happens around the training step, and everything a run leaves on disk."""
