"""What a step reports, where it is easy to report something else."""

from __future__ import annotations

import numpy as np

from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.metrics import step_metrics
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


def _group(rewards: list[float], injected: bool = False) -> Group:
    response = Response(np.zeros(2, np.int64), None, "", True)
    rollouts = [Rollout(response, r, RolloutStatus.GRADED) for r in rewards]
    if injected:
        rollouts[0] = Rollout(response, 1.0, RolloutStatus.GRADED, injected=True)
    return Group(Prompt(Question("q", "1?", "1"), GroupKind.PLAIN, "1?"), tuple(rollouts))


def test_an_injected_response_counts_as_the_wrong_one_it_replaced() -> None:
    """So the accuracy of `inject` can be compared with that of any other method."""
    groups = [_group([1, 1, 0, 0]), _group([0, 0, 0, 0], injected=True)]
    stats = UpdateStats(1, {})
    metrics = step_metrics(groups, np.zeros(8), {}, (), (), stats, PromptReplayBuffer(9), None)
    assert metrics["accuracy/plain"] == 2 / 8
