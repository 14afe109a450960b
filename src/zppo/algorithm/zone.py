"""The zone of proximal development: which questions are hard and how many prompts they get.

Method section 2, steps 3 and 5. Both caps allow floor(rho * |X_new|): a share is a ceiling
("at most"), so it is never rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from zppo.types import Group, GroupKind, GroupOutcome, Reformulation

# Which prompt of a question goes first at the post-cap. The paper gives BCQ before NCQ; Hint and
# Prefix belong to baselines with one prompt a question.
_ORDER = (GroupKind.BCQ, GroupKind.NCQ, GroupKind.HINT, GroupKind.PREFIX)


def is_hard(accuracy: float, tau: float) -> bool:
    """Whether a question with mean plain reward `accuracy` is hard: below `tau`, not at it."""
    return accuracy < tau


def share_of(rho: float, n_new: int) -> int:
    """floor(rho * n_new), with `rho` taken as the decimal it is written as.

    0.29 of 100 is 29, though 0.29 * 100 is below 29 in floating point. With few questions a step
    it is 0: one slot at rho = 0.25 takes four. Raises `ValueError` for a negative or non-finite
    `rho` and for a negative `n_new`.
    """
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho must be finite and at least 0, not {rho!r}")
    if n_new < 0:
        raise ValueError(f"n_new must be at least 0, not {n_new!r}")
    return math.floor(Fraction(str(rho)) * n_new)


def replay_size(rho: float, n_new: int, buffer_len: int) -> int:
    """|X_replay|: `rho` * |X_new| questions, fewer while the buffer holds fewer."""
    return min(share_of(rho, n_new), buffer_len)


def pre_cap(groups: Iterable[Group], limit: int, rng: np.random.Generator) -> list[Group]:
    """The `limit` hardest of the hard questions' plain groups, by ascending r_mean(x).

    Ties are broken at random by `rng`, so the result depends on the order of `groups`: pass them
    in the order of the step's questions, not in the order they finished.
    """
    hard = list(groups)
    order: list[int] = rng.permutation(len(hard)).tolist()
    return sorted((hard[i] for i in order), key=lambda group: group.accuracy)[: max(limit, 0)]


def post_cap(
    kept: Sequence[Group], built: Iterable[Reformulation], limit: int
) -> list[Reformulation]:
    """The reformulated prompts that are sampled: at most `limit`.

    Walks `kept` in its order, that of `pre_cap`; takes a question's BCQ, then its NCQ; stops at
    `limit`. With one slot left for a question that has both, its BCQ takes it. Reformulations
    without a prompt take no slot; those of a question that is not in `kept` are left out.
    """
    of_question: dict[str, list[Reformulation]] = {group.question.id: [] for group in kept}
    for reformulation in built:
        if reformulation.prompt is not None and reformulation.question.id in of_question:
            of_question[reformulation.question.id].append(reformulation)
    walk = (
        reformulation
        for of_one in of_question.values()
        for reformulation in sorted(of_one, key=lambda r: _ORDER.index(r.kind))
    )
    return [reformulation for reformulation, _ in zip(walk, range(max(limit, 0)), strict=False)]


def has_signal(groups: Sequence[Group]) -> np.ndarray:
    """(len(groups),) bool: whether some group of the same question, reformulated ones included,
    has both right and wrong rollouts."""
    alive = {g.question.id for g in groups if g.outcome is GroupOutcome.MIXED}
    return np.array([g.question.id in alive for g in groups], dtype=bool)
