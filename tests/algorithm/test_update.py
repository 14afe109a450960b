"""Step 6 by hand: what is dropped, and what that does to the scale of the rest."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from zppo.algorithm.update import policy_update
from zppo.config import load_config
from zppo.types import (
    Group,
    GroupKind,
    Prompt,
    Question,
    Response,
    Rollout,
    RolloutStatus,
    UpdateStats,
)


class Taught:
    """Keeps what it was given."""

    def __init__(self):
        self.calls = []

    async def update(self, groups, advantages, updates, seed):
        self.calls.append((groups, advantages, updates))
        return UpdateStats(updates, {"loss": 0.0})


def group(name, *rewards, kind=GroupKind.PLAIN):
    response = Response(np.array([1]), None, "", True)
    rollouts = tuple(Rollout(response, float(r), RolloutStatus.GRADED) for r in rewards)
    return Group(Prompt(Question(name, "?", "1"), kind, "?"), rollouts)


#: a: all wrong, its BCQ mixed. b: all right. c: mixed. d: all wrong, and its BCQ, too.
GROUPS = [
    *(group("a", 0, 0), group("b", 1, 1), group("c", 0, 1), group("d", 0, 0)),
    *(group("a", 1, 0, kind=GroupKind.BCQ), group("d", 0, 0, kind=GroupKind.BCQ)),
]


def update(groups, *overrides):
    student = Taught()
    parts = SimpleNamespace(config=load_config("lab", overrides), student=student)
    advantages, stats = asyncio.run(policy_update(groups, (0,), parts))
    return advantages, stats, student.calls


# Centred: +-1/2 for four of the rollouts. Over S = those four sigma is 1/2; over all twelve its
# square is 4/4/12 = 1/12; over the six that stay (a, c and a's BCQ) it is 4/4/6 = 1/6.
@pytest.mark.parametrize(
    "normalize, drop, size",
    [
        *(("none", False, 0.5), ("nonzero", False, 1.0), ("all", False, 0.5 * 12**0.5)),
        *(("none", True, 0.5), ("nonzero", True, 1.0), ("all", True, 0.5 * 6**0.5)),
    ],
)
def test_the_scale_changes_where_all_groups_are_counted(normalize, drop, size):
    overrides = [f"algorithm.normalize={normalize}", f"algorithm.drop_trivial_questions={drop}"]
    advantages, stats, [(groups, given, updates)] = update(GROUPS, *overrides)
    signs = np.array([0, 0, 0, 0, -1, 1, 0, 0, 1, -1, 0, 0])
    np.testing.assert_allclose(advantages, size * signs, rtol=1e-5)
    kept = [GROUPS[0], GROUPS[2], GROUPS[4]] if drop else GROUPS
    assert groups == kept and updates == 4
    np.testing.assert_array_equal(given, advantages[[0, 1, 4, 5, 8, 9]] if drop else advantages)
    assert stats.metrics.get("dropped_groups") == (3 if drop else None)


def test_what_is_left_bounds_the_updates():
    drop = "algorithm.drop_trivial_questions=true"
    _, stats, calls = update(GROUPS[1:4], drop)
    assert stats.updates == 2 == calls[0][2] and stats.metrics["dropped_groups"] == 2
    advantages, stats, calls = update([GROUPS[1], GROUPS[3]], drop)
    assert not advantages.any() and len(advantages) == 4
    assert (stats.updates, calls) == (0, [])
