"""MathVista (arXiv:2310.02255): choices by their text, numbers rounded to the data's precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import JudgeTask, Scored, Summary, Verdict, summarize_mean
from zppo.evaluation.scorers.boxed import by_rule, compare
from zppo.evaluation.scorers.dynamath import number
from zppo.rewards.grader import Grade


@dataclass(frozen=True, slots=True)
class MathVista:
    """The official normalisation on the boxed answer, then the judge.

    An integer is the truncated number, a float is rounded to `precision` places, and either must
    then be the gold answer. Choices, lists and texts go by the training rule.
    """

    breakdown: str | None = None
    name: str = "mathvista"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "fallback"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        verdict = by_rule(item, grade)
        free = item.meta.get("question_type") == "free_form"
        if not free or verdict.score or grade.extracted is None:
            return verdict
        if normalised(grade.extracted, item) == item.question.answer.strip():
            return replace(verdict, score=1.0, open=False)
        return verdict

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        return compare(item, response, verdict.extracted)

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`."""
        return summarize_mean(scored, self.breakdown)


def normalised(answer: str, item: Item) -> str | None:
    """The answer in the form of the gold answer, None when it is no number."""
    value = number(answer)
    if value is None or abs(value) > 1e15:
        return None
    match item.meta.get("answer_type"):
        case "integer":
            return str(int(value))
        case "float":
            precision = item.meta.get("precision")
            return None if precision is None else str(round(value, int(float(precision))))
        case _:
            return None
