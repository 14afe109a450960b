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


def _question(name: str) -> Question:
    return Question(name, "1?", "1")


def test_the_fate_of_a_question_by_accuracy_at_admission_and_by_visits() -> None:
    """a: admitted at 0, visited twice, graduates. b: at 1/4, visited once, evicted. c: at 0,
    evicted in the step that admits it. d: admitted at 1/4, stays."""
    buffer = PromptReplayBuffer(capacity=2)
    buffer.update([_question("b"), _question("a")], [0.25, 0.0])
    buffer.update([_question("b"), _question("a")], [0.0, 0.0])
    buffer.capacity = 1
    changes = buffer.update([_question(n) for n in "acd"], [0.5, 0.0, 0.25])
    stats = UpdateStats(1, {})
    groups = [_group([0, 0, 1, 0]), _group([0, 1, 1, 0])]
    metrics = step_metrics(groups, np.zeros(8), {}, (), (), stats, buffer, changes)
    assert metrics["zone/hard"] == 1  # half right is not hard
    assert metrics["buffer/admitted_from"] == {"0.000": 1, "0.250": 1}
    assert metrics["buffer/graduated_from"] == {"0.000": 1}
    assert metrics["buffer/graduated_visits"] == {"2": 1}
    assert metrics["buffer/evicted_from"] == {"0.000": 1, "0.250": 1}
    assert metrics["buffer/evicted_visits"] == {"0": 1, "1": 1}
    assert metrics["buffer/visits"] == {"0": 1}
