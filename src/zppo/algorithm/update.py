"""Step 6 of Algorithm 1: advantages of the step's rollouts, and the I updates with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zppo.algorithm.advantage import two_step_advantages
from zppo.algorithm.zone import has_signal
from zppo.types import Group, UpdateStats

if TYPE_CHECKING:
    from zppo.algorithm.step import StepParts


async def policy_update(
    groups: Sequence[Group], seed: Sequence[int], parts: StepParts
) -> tuple[np.ndarray, UpdateStats]:
    """(N,) advantages of all rollouts, groups in order, and what the student reports.

    With `algorithm.drop_trivial_questions` (beyond the paper) the student sees only the groups of
    questions that have a signal; the others' advantages are zero, as they would be anyway.
    """
    config = parts.config.algorithm
    used = has_signal(groups) if config.drop_trivial_questions else np.ones(len(groups), bool)
    learnt = [g for g, use in zip(groups, used, strict=True) if use]
    rows = np.repeat(used, [len(g.rollouts) for g in groups])
    advantages = np.zeros(len(rows))
    advantages[rows] = two_step_advantages(
        [r.reward for g in learnt for r in g.rollouts],
        [i for i, g in enumerate(learnt) for _ in g.rollouts],
        normalize=config.normalize,
    )
    stats = UpdateStats(0, {})
    # Fewer rollouts than updates may be left, down to none.
    if updates := min(parts.config.optimizer.updates_per_step, int(rows.sum())):
        stats = await parts.student.update(learnt, advantages[rows], updates, seed)
    if config.drop_trivial_questions:
        dropped = {"dropped_groups": len(groups) - len(learnt)}
        stats = replace(stats, metrics={**stats.metrics, **dropped})
    return advantages, stats
