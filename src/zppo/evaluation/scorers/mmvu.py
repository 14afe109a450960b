"""MMVU (arXiv:2501.12380): multiple choice by the rule first, open answers by the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import (
    JudgeTask,
    Scored,
    Summary,
    Verdict,
    after_thinking,
    said_something,
    summarize_mean,
)
from zppo.evaluation.scorers.boxed import by_rule
from zppo.evaluation.scorers.replies import verdict_word
from zppo.rewards.grader import Grade

_WORDS = {"correct": 1.0, "wrong": 0.0}
_MORE = frozenset({"extracted_answer"})


@dataclass(frozen=True, slots=True)
class Mmvu:
    """Two judge prompts, one a mode."""

    breakdown: str | None = None
    name: str = "mmvu"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "required"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        if item.question.options:
            return by_rule(item, grade)
        return Verdict(0.0, grade.status, grade.extracted, open=said_something(response, grade))

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        mode = "choice" if item.question.options else "open"
        values = {"item": item, "response": after_thinking(response)}
        return JudgeTask(f"mmvu_{mode}", values, verdict_word(_WORDS, "verdict", _MORE))

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`."""
        return summarize_mean(scored, self.breakdown)
