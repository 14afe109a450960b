"""The algorithm: pure functions and small state. Imports neither torch nor any engine."""
