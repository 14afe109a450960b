"""Exact match by the rule of training, then the judge (20 of the 31 benchmarks)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import (
    JudgeReply,
    JudgeTask,
    Scored,
    Summary,
    Verdict,
    shown_to_judge,
    summarize_mean,
)
from zppo.rewards.grader import Grade
from zppo.rewards.judge import read_reply
from zppo.types import RolloutStatus

_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")


@dataclass(frozen=True, slots=True)
class Boxed:
    """The last box against the gold answer; what the rule refuses goes to the judge.

    Two cases are decided without it: a response that was cut before it said anything, and the
    bare letter or text of another option, where there is nothing to compare.
    """

    breakdown: str | None = None
    name: str = "boxed"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "fallback"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        return by_rule(item, grade)

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        return compare(item, response, verdict.extracted)

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`."""
        return summarize_mean(scored, self.breakdown)


def by_rule(item: Item, grade: Grade) -> Verdict:
    """The verdict of the training rule, open where a judge could tell more."""
    if grade.status in (RolloutStatus.GRADER_TIMEOUT, RolloutStatus.GRADER_ERROR):
        return Verdict(0.0, grade.status, grade.extracted, open=True)
    decided = (
        grade.correct
        or grade.status is RolloutStatus.TRUNCATED
        or other_option(grade.extracted, item.question.answer, item.question.options)
    )
    return Verdict(float(grade.correct), grade.status, grade.extracted, open=not decided)


def other_option(extracted: str | None, gold: str, options: tuple[str, ...] | None) -> bool:
    """Whether an answer that the rule refused is the letter or the text of an option."""
    if options and extracted and extracted.strip().lower() in {o.strip().lower() for o in options}:
        return True
    said, right = _LETTER.fullmatch(extracted or ""), _LETTER.fullmatch(gold)
    if said is None or right is None or said[1].upper() == right[1].upper():
        return False
    return options is None or ord(said[1].upper()) - ord("A") < len(options)


def compare(item: Item, response: str, extracted: str | None) -> JudgeTask:
    """The comparator of method section 6, with the training template."""
    return JudgeTask(
        "answer",
        {"item": item, "response": shown_to_judge(response, extracted)},
        read_comparison,
    )


def read_comparison(reply: str) -> JudgeReply | None:
    """The strict `{"verdict": ...}` of training."""
    correct, status = read_reply(reply)
    return JudgeReply(float(correct)) if status is RolloutStatus.GRADED else None
