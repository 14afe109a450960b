from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zppo.algorithm.buffer import BufferEntry, PromptReplayBuffer
from zppo.errors import RunError
from zppo.types import Media, Question


def question(name: str | int) -> Question:
    return Question(str(name), f"text of {name}", "answer")


def ids(buffer: PromptReplayBuffer) -> list[str]:
    return [entry.question.id for entry in buffer.entries]


def test_admits_below_the_threshold_and_graduates_at_it():
    buffer = PromptReplayBuffer(10)
    change = buffer.update([question(i) for i in range(3)], [0.0, 3 / 8, 4 / 8], step=5)
    assert (change.admitted, change.graduated, change.evicted) == (["0", "1"], [], [])
    assert buffer.entries[1] == BufferEntry(question(1), 3 / 8, admitted_step=5, visits=0)

    change = buffer.update([question(0), question(1)], [0.5, 0.0], step=6)
    assert (change.admitted, change.graduated, change.evicted) == ([], ["0"], [])
    assert buffer.entries == (BufferEntry(question(1), 3 / 8, admitted_step=5, visits=1),)
    assert change.left == {"0": BufferEntry(question(0), 0.0, admitted_step=5, visits=1)}


def test_evicts_the_oldest_first_and_a_visit_does_not_renew():
    buffer = PromptReplayBuffer(2)
    buffer.update([question(0), question(1)], [0.0, 0.0])
    buffer.update([question(0)], [0.0])
    change = buffer.update([question(2)], [0.0])
    assert change.evicted == ["0"] and change.left["0"].visits == 1
    assert ids(buffer) == ["1", "2"]


def test_graduations_make_room_before_anything_is_evicted():
    buffer = PromptReplayBuffer(2)
    buffer.update([question(0), question(1)], [0.0, 0.0])
    change = buffer.update([question(2), question(1)], [0.0, 1.0])
    assert (change.admitted, change.graduated, change.evicted) == (["2"], ["1"], [])
    assert ids(buffer) == ["0", "2"]


def test_a_step_larger_than_the_buffer():
    buffer = PromptReplayBuffer(2)
    change = buffer.update([question(i) for i in range(4)], [0.0] * 4)
    assert change.admitted == ["0", "1", "2", "3"] and change.evicted == ["0", "1"]
    assert ids(buffer) == ["2", "3"]


def test_a_graduate_that_fails_again_comes_back_at_the_end():
    buffer = PromptReplayBuffer(5)
    buffer.update([question(0), question(1)], [0.0, 0.0], step=0)
    buffer.update([question(0)], [1.0], step=1)
    buffer.update([question(0)], [0.25], step=2)
    assert ids(buffer) == ["1", "0"]
    assert buffer.entries[1] == BufferEntry(question(0), 0.25, admitted_step=2, visits=0)


@pytest.mark.parametrize(("accuracies", "stays"), [((0.0, 0.875), True), ((0.125, 0.875), False)])
def test_a_question_new_and_replayed_in_one_step_is_judged_by_its_mean(accuracies, stays):
    for order in (accuracies, accuracies[::-1]):
        buffer = PromptReplayBuffer(5)
        buffer.update([question(0)], [0.0])
        change = buffer.update([question(0), question(0)], order)
        assert change.graduated == ([] if stays else ["0"])
        assert (buffer.entries[0] if stays else change.left["0"]).visits == 1


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf])
def test_refuses_an_accuracy_that_is_none_and_stays_as_it_was(bad):
    buffer = PromptReplayBuffer(5)
    buffer.update([question(0)], [0.0])
    with pytest.raises(ValueError, match=r"accuracies.*`2`"):
        buffer.update([question(1), question(2)], [0.0, bad])
    assert ids(buffer) == ["0"]


def test_refuses_lengths_that_differ():
    with pytest.raises(ValueError, match="accuracies"):
        PromptReplayBuffer(5).update([question(0)], [])


@pytest.mark.parametrize(("capacity", "threshold"), [(0, 0.5), (5, 0.0), (5, 1.5), (5, math.nan)])
def test_refuses_settings_that_make_no_sense(capacity, threshold):
    with pytest.raises(ValueError, match=r"capacity|threshold"):
        PromptReplayBuffer(capacity, threshold)


def test_samples_uniformly_without_replacement():
    buffer = PromptReplayBuffer(10)
    buffer.update([question(i) for i in range(10)], [0.0] * 10)
    rng = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(2000):
        drawn = [int(q.id) for q in buffer.sample(3, rng)]
        assert len(set(drawn)) == 3
        counts[drawn] += 1
    assert np.abs(counts - 600).max() < 5 * math.sqrt(2000 * 0.3 * 0.7)
    assert len(buffer) == 10


def test_sample_is_repeatable_bounded_and_can_leave_questions_out():
    buffer = PromptReplayBuffer(10)
    assert buffer.sample(3, np.random.default_rng(0)) == []
    buffer.update([question(i) for i in range(4)], [0.0] * 4)
    draws = [buffer.sample(3, np.random.default_rng(7)) for _ in range(2)]
    assert draws[0] == draws[1]
    assert {q.id for q in buffer.sample(99, np.random.default_rng(0))} == {"0", "1", "2", "3"}
    left = buffer.sample(99, np.random.default_rng(0), exclude={"0", "3"})
    assert {q.id for q in left} == {"1", "2"}
    with pytest.raises(ValueError, match="n must"):
        buffer.sample(-1, np.random.default_rng(0))


def test_composition_counts_by_accuracy_at_admission():
    buffer = PromptReplayBuffer(10)
    buffer.update([question(i) for i in range(4)], [0.25, 0.0, 0.25, 0.375])
    buffer.update([question(0)], [0.0])
    assert buffer.composition() == {0.0: 1, 0.25: 2, 0.375: 1}


def test_state_survives_json_with_media_and_order():
    buffer = PromptReplayBuffer(3, threshold=0.75)
    media = (Media("image", (b"\x89PNG\x00\xff",)), Media("video", ("a.mp4",), fps=2.0))
    rich = Question("m", "look", "x", "free", ("x", "y"), media, "because", "set")
    buffer.update([question(1), rich, question(0)], [0.1, 1 / 3, 0.7], step=4)
    buffer.update([rich], [0.2], step=5)

    restored = PromptReplayBuffer(99)
    restored.load_state_dict(json.loads(json.dumps(buffer.state_dict())))
    assert restored.entries == buffer.entries
    assert restored.state_dict() == buffer.state_dict()
    assert (restored.capacity, restored.threshold) == (3, 0.75)
    draw = [b.sample(2, np.random.default_rng(3)) for b in (buffer, restored)]
    assert draw[0] == draw[1]


def test_a_state_is_a_copy():
    buffer = PromptReplayBuffer(3)
    buffer.update([question(0)], [0.0])
    state = buffer.state_dict()
    buffer.update([question(0)], [1.0])
    assert len(state["entries"]) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("entries"),
        lambda state: state["entries"].append(state["entries"][0]),
        lambda state: state["entries"][0]["question"].pop("answer"),
        lambda state: state["entries"][0].pop("visits"),
        lambda state: state.update(capacity=0),
        lambda state: state.update(entries=3),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(damage):
    buffer = PromptReplayBuffer(3)
    buffer.update([question(0)], [0.0])
    state = buffer.state_dict()
    damage(state)
    with pytest.raises(RunError, match="replay buffer"):
        buffer.load_state_dict(state)
    assert ids(buffer) == ["0"]


class BufferMachine(RuleBasedStateMachine):
    """The buffer against the rules of method section 4 written as a plain list of rows."""

    @initialize(capacity=st.integers(1, 5), threshold=st.sampled_from([0.25, 0.5, 1.0]))
    def start(self, capacity: int, threshold: float) -> None:
        self.buffer = PromptReplayBuffer(capacity, threshold)
        self.capacity, self.threshold = capacity, threshold
        self.rows: list[list] = []  # [id, accuracy at admission, step, visits]
        self.step = 0

    @rule(
        drawn=st.lists(
            st.tuples(st.integers(0, 9), st.integers(0, 8)), unique_by=lambda d: d[0], max_size=8
        )
    )
    def update(self, drawn: list[tuple[int, int]]) -> None:
        self.step += 1
        admitted, graduated, evicted = [], [], []
        for name, eighths in drawn:
            accuracy = eighths / 8
            row = next((row for row in self.rows if row[0] == str(name)), None)
            if row:
                row[3] += 1
            if accuracy < self.threshold and not row:
                self.rows.append([str(name), accuracy, self.step, 0])
                admitted.append(str(name))
            if accuracy >= self.threshold and row:
                self.rows.remove(row)
                graduated.append(str(name))
        while len(self.rows) > self.capacity:
            evicted.append(self.rows.pop(0)[0])

        change = self.buffer.update(
            [question(name) for name, _ in drawn], [e / 8 for _, e in drawn], step=self.step
        )
        assert (change.admitted, change.graduated, change.evicted) == (admitted, graduated, evicted)
        assert set(change.left) == {*graduated, *evicted}

    @rule()
    def checkpoint_and_resume(self) -> None:
        state = json.loads(json.dumps(self.buffer.state_dict()))
        self.buffer = PromptReplayBuffer(1)
        self.buffer.load_state_dict(state)

    @rule(n=st.integers(0, 7), seed=st.integers(0, 9))
    def sample(self, n: int, seed: int) -> None:
        drawn = [q.id for q in self.buffer.sample(n, np.random.default_rng(seed))]
        assert len(drawn) == len(set(drawn)) == min(n, len(self.rows))
        assert set(drawn) <= {row[0] for row in self.rows}

    @invariant()
    def same_rows(self) -> None:
        entries = self.buffer.entries
        assert len(self.buffer) == len(entries) <= self.capacity
        assert self.rows == [
            [e.question.id, e.accuracy_at_admission, e.admitted_step, e.visits] for e in entries
        ]


TestBufferAgainstModel = BufferMachine.TestCase
TestBufferAgainstModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
