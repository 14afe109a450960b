"""Rewards: the boxed answer of a response against the gold answer (method section 7)."""

from zppo.rewards.boxed import extract_boxed
from zppo.rewards.grader import Grade, Grader, RuleGrader, grade

__all__ = ["Grade", "Grader", "RuleGrader", "extract_boxed", "grade"]
