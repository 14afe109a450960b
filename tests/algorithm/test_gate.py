"""The NCQ gate: what counts as repeating, the running average, when it closes."""

from __future__ import annotations

import numpy as np
import pytest

from zppo.algorithm.gate import NcqGate
from zppo.algorithm.methods import METHODS
from zppo.types import (
    Group,
    GroupKind,
    Prompt,
    Question,
    Reformulation,
    Response,
    Rollout,
    RolloutStatus,
)


def sampled(answers, listed=("3", "7"), kind=GroupKind.NCQ):
    """A prompt that lists wrong answers, and the group of rollouts with these answers."""
    question = Question("q", "1 + 1?", "2")
    prompt = Prompt(question, kind, "a prompt")
    rollouts = tuple(
        Rollout(Response(np.array([1]), None, "", True), 0.0, RolloutStatus.GRADED, a)
        for a in answers
    )
    asked = Reformulation(question, kind, prompt, wrong_answers=tuple(listed))
    return asked, Group(prompt, rollouts)


def update(gate, *pairs):
    return gate.update([a for a, _ in pairs], [g for _, g in pairs])


def test_the_rate_is_the_share_of_ncq_rollouts_that_repeat_a_listed_answer():
    gate = NcqGate(0.5)
    metrics = update(
        gate,
        sampled(["3", "7.0", "2", None]),  # same text, same number; right; none at all
        sampled(["3", "3"], listed=["3.5"]),
        sampled(["3", "3", "3"], kind=GroupKind.BCQ),  # not an NCQ
    )
    assert metrics.pop("ncq/gate_open") == 1.0
    assert metrics == pytest.approx({"ncq/match_neg": 2 / 6, "ncq/match_neg_average": 2 / 6})


def test_the_average_forgets_a_tenth_a_step():
    gate = NcqGate()
    update(gate, sampled(["3", "2"]))  # 1/2: the first rate is the average
    update(gate, sampled(["3", "7"]))  # 0.9 * 0.5 + 0.1 * 1
    assert gate.average == pytest.approx(0.55)
    assert update(gate) == {}  # a step without NCQ rollouts leaves it alone
    update(gate, sampled(["1", "1"]))  # 0.9 * 0.55 + 0.1 * 0
    assert gate.average == pytest.approx(0.495)


def test_it_is_open_until_measured_and_closes_at_the_threshold():
    gate = NcqGate(0.5)
    assert gate.is_open and gate.applied_to(METHODS["zppo"]).ncq
    update(gate, sampled(["3", "2"]))
    assert not gate.is_open
    closed = gate.applied_to(METHODS["zppo"])
    assert closed.bcq and not closed.ncq and closed.prompts_per_question == 1
    assert not gate.applied_to(METHODS["grpo+replay+ncq"]).reformulates
    assert update(gate) == {"ncq/gate_open": 0.0}


def test_without_a_threshold_it_only_measures():
    gate = NcqGate()
    assert update(gate, sampled(["3", "3"])) == {"ncq/match_neg": 1.0, "ncq/match_neg_average": 1.0}
    assert gate.is_open and gate.applied_to(METHODS["zppo"]) is METHODS["zppo"]


def test_its_state_survives():
    gate, again = NcqGate(0.5), NcqGate(0.5)
    update(gate, sampled(["3", "3"]))
    again.load_state_dict(gate.state_dict())
    assert again.average == 1.0 and not again.is_open
