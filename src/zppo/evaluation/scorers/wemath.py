"""We-Math (arXiv:2407.01284): a problem together with its steps, in four dimensions.

A problem of two or three steps is asked as a whole and step by step. By what is right:

    all steps and the whole       complete mastery (CM)
    all steps, not the whole      inadequate generalization (IG)
    not the whole, a step wrong   insufficient knowledge (IK)
    the whole, a step wrong       rote memorization (RM); loose: CM while any step is right
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import (
    JudgeTask,
    Scored,
    Summary,
    Verdict,
    clustered,
    summarize_mean,
)
from zppo.evaluation.scorers.boxed import by_rule, compare
from zppo.rewards.grader import Grade

#: What a problem of each kind adds to the average: IG costs half, IK and RM cost all.
WORTH = {"CM": 1.0, "IG": 0.5, "IK": 0.0, "RM": 0.0}


@dataclass(frozen=True, slots=True)
class WeMath:
    """The score is the strict average. One-step problems count for plain accuracy alone."""

    breakdown: str | None = None
    name: str = "wemath"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "fallback"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        return by_rule(item, grade)

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        return compare(item, response, verdict.extracted)

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`; `n` counts problems, not their steps."""
        problems, incomplete = _problems(scored)
        accuracy = summarize_mean(scored).score
        parts = {} if accuracy is None else {"accuracy": accuracy}
        parts["incomplete_problems"] = float(incomplete)
        if not problems:
            return Summary(None, 0, None, parts)
        kinds = {mode: [dimension(*p[1:], mode == "loose") for p in problems] for mode in _MODES}
        for mode, found in kinds.items():
            parts[mode] = sum(WORTH[kind] for kind in found) / len(found)
            for kind in WORTH:
                parts[f"{mode}/{kind}"] = found.count(kind) / len(found)
        values = [WORTH[kind] for kind in kinds["strict"]]
        names = [name for name, _, _ in problems]
        score, error = clustered(values, names)
        return Summary(score, len(set(names)), error, parts)


_MODES = ("strict", "loose")


def dimension(steps: Sequence[bool], whole: bool, loose: bool) -> str:
    """CM, IG, IK or RM of a problem whose steps and whole are right or not."""
    if not whole:
        return "IG" if all(steps) else "IK"
    mastered = any(steps) if loose else all(steps)
    return "CM" if mastered else "RM"


def _problems(scored: Sequence[Scored]) -> tuple[list[tuple[str, list[bool], bool]], int]:
    """(name, steps right, whole right) of every problem and sample that is complete, and how many
    are not. `key` is `2steps_1`, ..., `2steps_multi`; an ID is unique within its number of steps.
    """
    found: dict[tuple[str, int], dict[str, bool]] = defaultdict(dict)
    for one in scored:
        size, _, step = str(one.item.meta.get("key")).partition("_")
        if size in ("2steps", "3steps") and one.verdict.score is not None:
            name = f"{size}/{one.item.meta.get('ID')}"
            found[name, one.sample][step] = one.verdict.score > 0.5
    problems: list[tuple[str, list[bool], bool]] = []
    for (name, _), right in found.items():
        wanted = [str(i) for i in range(1, int(name[0]) + 1)]
        if "multi" in right and all(step in right for step in wanted):
            problems.append((name, [right[step] for step in wanted], right["multi"]))
    return problems, len(found) - len(problems)
