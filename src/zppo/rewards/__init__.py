"""Rewards: the boxed answer of a response against the gold answer (method section 7)."""

from zppo.rewards.boxed import extract_boxed
from zppo.rewards.grader import Grade, Grader, GradingMode, RuleGrader, grade
from zppo.rewards.workers import WorkerPool

__all__ = [
    "Grade",
    "Grader",
    "GradingMode",
    "RuleGrader",
    "WorkerPool",
    "extract_boxed",
    "grade",
]
