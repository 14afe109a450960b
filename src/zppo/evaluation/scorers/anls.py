"""ANLS: average normalised Levenshtein similarity, for InfographicVQA (arXiv:2104.12756)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import JudgeTask, Scored, Summary, Verdict, summarize_mean
from zppo.rewards.grader import Grade

THRESHOLD = 0.5
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_MATH = re.compile(r"^\$([^$]*[^$\\])\$$")
_ESCAPED = re.compile(r"\\([%$&#_{} ])")
_LONGEST = 1_000  # characters compared; gold answers have a few words


@dataclass(frozen=True, slots=True)
class Anls:
    """The best similarity to any accepted answer, of the box as it is or without its LaTeX; 0 below
    the threshold. No judge."""

    breakdown: str | None = None
    name: str = "anls"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "none"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        if grade.extracted is None:
            return Verdict(0.0, grade.status)
        answers = item.meta.get("answers") or item.question.answer
        if isinstance(answers, str):
            answers = [answers]
        said = (grade.extracted, _without_latex(grade.extracted))
        best = max(similarity(text, str(answer)) for text in said for answer in answers)
        return Verdict(best, extracted=grade.extracted)

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """Never asked: no verdict is open."""
        raise NotImplementedError("ANLS has no judge")

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`."""
        return summarize_mean(scored, self.breakdown)


def _without_latex(box: str) -> str:
    """What a box says without what it is wrapped in: `\\text{Facebook}`, `40\\%`, `$2010$`."""
    return _ESCAPED.sub(r"\1", _TEXT.sub(r"\1", _MATH.sub(r"\1", box.strip())))


def similarity(answer: str, gold: str) -> float:
    """1 - distance / length of the longer one, in lower case with single spaces; 0 when the
    distance is at least half of it."""
    a, b = (" ".join(text.lower().split())[:_LONGEST] for text in (answer, gold))
    longest = max(len(a), len(b))
    if longest == 0:
        return 1.0
    ratio = distance(a, b) / longest
    return 1.0 - ratio if ratio < THRESHOLD else 0.0


def distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions cost 1 each."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]
