"""VLMs are Blind (arXiv:2407.06581): a number, a letter, yes or no, or rows and columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import JudgeTask, Scored, Summary, Verdict, summarize_mean
from zppo.evaluation.scorers.boxed import by_rule, compare
from zppo.rewards.grader import Grade

_NUMBERS = re.compile(r"\d+")
#: What may stand around the numbers of a box so that their order is that of the question.
_PLAIN = re.compile(r"[\d\s,;:(){}\[\]=&x\\]|rows?|col(?:umn)?s?|and|times|text", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class VlmsAreBlind:
    """By the training rule, except that the rows and columns of a grid have an order."""

    breakdown: str | None = "task"
    name: str = "vlmsareblind"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "fallback"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        gold = _NUMBERS.findall(item.question.answer)
        if len(gold) < 2 or grade.extracted is None:
            return by_rule(item, grade)
        said = grid(grade.extracted)
        right = said == gold
        return Verdict(float(right), extracted=grade.extracted, open=said is None)

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        return compare(item, response, verdict.extracted)

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`. Each task's mean and the mean over tasks are in the parts."""
        summary = summarize_mean(scored, self.breakdown)
        if not summary.parts:
            return summary
        tasks = list(summary.parts.values())
        parts = {"mean over tasks": sum(tasks) / len(tasks), **summary.parts}
        return Summary(summary.score, summary.n, summary.stderr, parts)


def grid(text: str) -> list[str] | None:
    """The two numbers of `text`, rows first, also where it names the columns first. None where it
    says anything else."""
    found = _NUMBERS.findall(text)
    if len(found) != 2 or _PLAIN.sub("", text):
        return None
    lower = text.lower()
    row, column = lower.find("row"), lower.find("col")
    return found[::-1] if -1 < column < row else found
