"""Transfer: what a hard question's plain accuracy is when it comes back, by what it got before.

A question that is hard at one visit and seen again later is a pair of plain accuracies. Between
them the student was trained on this question's BCQ or NCQ prompt, or it was not. The pre-cap takes
the hardest questions first, so treated and untreated ones must be compared at the same accuracy:
the groups here are split into those with no right rollout and the rest.

That table remains an observation: treated and untreated questions come from different times. But
where a step has more questions without any right rollout than it has room for, the pre-cap draws
among them at random, and when a question comes back is drawn at random too. `contrast` compares
within such steps, which makes it an experiment. It sees what stays with the question itself: what
training on some questions does for all others cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zppo.algorithm.zone import is_hard
from zppo.report.reading import GroupRow, StepLog
from zppo.types import GroupKind

#: Half width of a 95% interval in standard errors.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Return:
    """Two visits of a question in a row, the first one hard. `kinds` are the reformulated prompts
    of it that were sampled at the first one, sorted, and `taken` tells whether the step set out to
    reformulate it; `steps` passed between `step`, the first one, and the second."""

    question: str
    step: int
    steps: int
    before: float
    after: float
    kinds: tuple[str, ...] = ()
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """Returns with the same treatment and the same start.

    `treatment` is `none` or kinds joined by `+`; `all_wrong` tells whether no plain rollout was
    right at the first visit. `after` is the mean accuracy of the second visit, and `margin` half
    its 95% interval, by question (one question's returns are one observation); None for a single
    question. `solved` is the share of returns no longer hard, `steps` the mean gap.
    """

    treatment: str
    all_wrong: bool
    returns: int
    questions: int
    before: float
    after: float
    margin: float | None
    solved: float
    steps: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Accuracy at return of questions that were taken for reformulation, minus that of others of
    the same step, none of which had a right rollout. `margin` is half the 95% interval."""

    steps: int
    taken: int
    others: int
    difference: float
    margin: float


def follow(tau: float) -> Callable[[StepLog], list[Return]]:
    """A function to call with every step's log in order; it gives the returns of that step."""
    last: dict[str, tuple[int, float, tuple[str, ...], bool]] = {}

    def visit(log: StepLog) -> list[Return]:
        kinds: dict[str, set[str]] = {}
        plain: dict[str, list[GroupRow]] = {}
        for group in log.groups:
            if group.kind == GroupKind.PLAIN:
                plain.setdefault(group.question, []).append(group)
            else:
                kinds.setdefault(group.question, set()).add(group.kind)
        skipped = {row.question for row in log.skipped}
        returns: list[Return] = []
        for question, groups in plain.items():
            accuracy = sum(map(own_accuracy, groups)) / len(groups)
            treated = tuple(sorted(kinds.get(question, ())))
            if question in last:
                step, before, earlier, taken = last[question]
                if is_hard(before, tau):
                    gap = log.step - step
                    returns.append(Return(question, step, gap, before, accuracy, earlier, taken))
            taken = bool(treated) or question in skipped
            last[question] = (log.step, accuracy, treated, taken)
        return returns

    return visit


def own_accuracy(group: GroupRow) -> float:
    """Mean reward of the student's own rollouts; an injected one counts as wrong."""
    return sum(r.reward for r in group.rollouts if not r.injected) / len(group.rollouts)


def summarize(returns: Sequence[Return], tau: float) -> tuple[Transfer, ...]:
    """One row a treatment and start, all-wrong questions first, `none` last within each."""
    rows: dict[tuple[bool, str], list[Return]] = {}
    for one in returns:
        treatment = "+".join(one.kinds) or "none"
        rows.setdefault((one.before == 0.0, treatment), []).append(one)
    order = sorted(rows, key=lambda key: (not key[0], key[1] == "none", key[1]))
    return tuple(_transfer(key[1], key[0], rows[key], tau) for key in order)


def contrast(returns: Sequence[Return]) -> Contrast | None:
    """The effect of being taken, by least squares with a level of its own for every step.

    Questions whose prompts could not be built count as taken: leaving them out would leave out
    the hardest. None where no step has returns of both sorts, or too few to tell their spread.
    """
    by_step: dict[int, tuple[list[float], list[float]]] = {}
    for one in returns:
        if one.before == 0.0:
            by_step.setdefault(one.step, ([], []))[one.taken].append(one.after)
    cells = [(np.array(no), np.array(yes)) for no, yes in by_step.values() if no and yes]
    n = sum(len(no) + len(yes) for no, yes in cells)
    freedom = n - len(cells) - 1
    if not cells or freedom < 1:
        return None
    weights = np.array([len(no) * len(yes) / (len(no) + len(yes)) for no, yes in cells])
    gaps = np.array([yes.mean() - no.mean() for no, yes in cells])
    difference = float(weights @ gaps / weights.sum())
    within = sum(float(((x - x.mean()) ** 2).sum()) for cell in cells for x in cell)
    between = float(weights @ (gaps - difference) ** 2)
    error = math.sqrt((within + between) / freedom / weights.sum())
    taken = sum(len(yes) for _, yes in cells)
    return Contrast(len(cells), taken, n - taken, difference, _Z * error)


def _transfer(treatment: str, all_wrong: bool, some: Sequence[Return], tau: float) -> Transfer:
    by_question: dict[str, list[float]] = {}
    for one in some:
        by_question.setdefault(one.question, []).append(one.after)
    means = [float(np.mean(values)) for values in by_question.values()]
    n = len(means)
    return Transfer(
        treatment,
        all_wrong,
        len(some),
        n,
        before=float(np.mean([r.before for r in some])),
        after=float(np.mean([r.after for r in some])),
        margin=_Z * float(np.std(means, ddof=1)) / math.sqrt(n) if n > 1 else None,
        solved=float(np.mean([not is_hard(r.after, tau) for r in some])),
        steps=float(np.mean([r.steps for r in some])),
    )
