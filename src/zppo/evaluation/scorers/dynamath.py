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
    mean_by_question,
    summarize_mean,
)
from zppo.evaluation.scorers.boxed import by_rule, compare
from zppo.rewards.grader import Grade

TOLERANCE = 0.001
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_PI = re.compile(r"([-+]?[\d.]*)\s*\*?\s*(?:\\pi|π|pi)")


@dataclass(frozen=True, slots=True)
class DynaMath:
    """Numbers within 0.001 of the gold one; letters and texts by the training rule.

    `worst` in the parts counts a question only if all its variants are right.
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
        worst = worst_case(scored)
        if summary.score is None or worst is None:
            return summary
        parts = {"average": summary.score, "worst": worst, **summary.parts}
        return replace(summary, parts=parts)


def worst_case(scored: Sequence[Scored]) -> float | None:
    """Share of (question, sample) whose variants are all right."""
    by_question: dict[tuple[str, int], list[float]] = defaultdict(list)
    for one in scored:
        if one.verdict.score is not None:
            by_question[one.item.cluster, one.sample].append(one.verdict.score)
    if not mean_by_question(scored):
        return None
    return sum(min(scores) for scores in by_question.values()) / len(by_question)


def close(said: float, gold: float) -> bool:
    """Within the tolerance, with room for the rounding of the difference itself."""
    return abs(said - gold) <= TOLERANCE + 1e-12


def number(text: str) -> float | None:
    """A plain decimal, or a multiple of pi (`2\\pi`, `0.5π`); None for anything else."""
    text = text.strip().strip("$").replace(",", "").replace("−", "-")  # noqa: RUF001
    if match := _PI.fullmatch(text):
        sign = {"": 1.0, "+": 1.0, "-": -1.0}.get(match[1])
        factor = sign if sign is not None else number(match[1])
        return None if factor is None else factor * math.pi
    return float(text) if _NUMBER.fullmatch(text) else None
