"""DynaMath (arXiv:2411.00836): 501 questions in ten variants, average and worst case."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import (
    JudgeTask,
    Scored,
    Summary,
    Verdict,
    summarize_mean,
)
from zppo.evaluation.scorers.boxed import by_rule, compare
from zppo.rewards.grader import Grade

TOLERANCE = 0.001
VARIANTS = 10
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_PI = re.compile(r"([-+]?[\d.]*)\s*\*?\s*(?:\\pi|π|pi)")


@dataclass(frozen=True, slots=True)
class DynaMath:
    """Numbers within 0.001 of the gold one; letters and texts by the training rule.

    `worst` in the parts counts a question only if all its ten variants are right. Questions of
    which a variant has no verdict are left out of it, and counted.
    """

    breakdown: str | None = None
    name: str = "dynamath"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "fallback"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        verdict = by_rule(item, grade)
        if item.meta.get("answer_type") != "float" or grade.extracted is None:
            return verdict
        said, gold = number(grade.extracted), number(item.question.answer)
        if said is None or gold is None:
            return verdict
        right = close(said, gold)
        return replace(verdict, score=float(right), open=not right)

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        return compare(item, response, verdict.extracted)

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`. The worst case is taken sample by sample, then averaged."""
        summary = summarize_mean(scored, self.breakdown)
        if summary.score is None:
            return summary
        worst, incomplete = worst_case(scored)
        parts = {"average": summary.score, "incomplete_questions": float(incomplete)}
        if worst is not None:
            parts["worst"] = worst
        return replace(summary, parts=parts | dict(summary.parts))


def worst_case(scored: Sequence[Scored]) -> tuple[float | None, int]:
    """Share of (question, sample) whose ten variants are all right, None where none has them all;
    and how many lack one, of which nobody knows the worst."""
    by_question: dict[tuple[str, int], list[float]] = defaultdict(list)
    for one in scored:
        if one.verdict.score is not None:
            by_question[one.item.cluster, one.sample].append(one.verdict.score)
    whole = [min(scores) for scores in by_question.values() if len(scores) >= VARIANTS]
    share = sum(whole) / len(whole) if whole else None
    return share, len(by_question) - len(whole)


def close(said: float, gold: float) -> bool:
    """Within the tolerance, with room for the rounding of the difference itself."""
    return abs(said - gold) <= TOLERANCE + 1e-12


def number(text: str) -> float | None:
    """A plain decimal, or a multiple of pi (`2\\pi`, `0.5π`); None for anything else."""
    text = text.strip().strip("$").replace("−", "-")  # noqa: RUF001
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if match := _PI.fullmatch(text):
        sign = {"": 1.0, "+": 1.0, "-": -1.0}.get(match[1])
        factor = sign if sign is not None else number(match[1])
        return None if factor is None else factor * math.pi
    return float(text) if _NUMBER.fullmatch(text) else None
