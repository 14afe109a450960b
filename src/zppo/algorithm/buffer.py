"""The prompt replay buffer B (method section 4): questions to come back to, never responses."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zppo.algorithm.zone import is_hard
from zppo.errors import DataError, RunError
from zppo.serialization import question_from_dict, question_to_dict
from zppo.types import Question


@dataclass(frozen=True, slots=True)
class BufferEntry:
    """A buffered question and its history.

    accuracy_at_admission   r_mean(x) of the step that admitted it.
    admitted_step           that step, None where `update` was not told.
    visits                  steps since then in which the question was rolled out again.
    """

    question: Question
    accuracy_at_admission: float
    admitted_step: int | None = None
    visits: int = 0


@dataclass(frozen=True, slots=True)
class BufferUpdate:
    """What one step changed, as question ids in order.

    `left` holds the last entry of every question that graduated or was evicted, by id: its fate
    by visits and by accuracy at admission. A question both admitted and evicted in one step (the
    step brought more than the buffer holds) is in both lists.
    """

    admitted: list[str]
    graduated: list[str]
    evicted: list[str]
    left: Mapping[str, BufferEntry] = field(default_factory=dict[str, BufferEntry])


class PromptReplayBuffer:
    """Hard questions in order of admission; the oldest leave first when there are too many.

    Args:
        capacity: |B|max, questions; at least 1.
        threshold: tau. A question below it is admitted, one at or above it graduates.

    Raises `ValueError` for a capacity below 1 or a threshold outside (0, 1].
    """

    def __init__(self, capacity: int, threshold: float = 0.5) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity!r}")
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold must be in (0, 1], not {threshold!r}")
        self.capacity = capacity
        self.threshold = threshold
        self._entries: dict[str, BufferEntry] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[BufferEntry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries.values())

    def composition(self) -> dict[float, int]:
        """Number of entries by accuracy at admission (0, 1/8, 2/8, ...), ascending."""
        return dict(sorted(Counter(e.accuracy_at_admission for e in self.entries).items()))

    def update(
        self, questions: Sequence[Question], accuracies: Sequence[float], *, step: int | None = None
    ) -> BufferUpdate:
        """Admit, graduate and evict after a step, from its plain rollouts alone.

        `accuracies` are r_mean(x) in [0, 1], one a question. A question below the threshold is
        admitted at the back; one that is in already keeps its place, its entry and its question as
        first stored, and counts a visit. One at or above the threshold leaves. Then the oldest
        leave until at most `capacity` stay.

        A question that appears twice (new and replayed in one step) is judged once, by the mean
        of its accuracies, and counts one visit: it is one question with more rollouts, and neither
        draw is better evidence than the other.

        Raises `ValueError`, before anything changes, when the lengths differ or an accuracy is
        not a number in [0, 1].
        """
        if len(questions) != len(accuracies):
            raise ValueError(
                f"accuracies must be one a question: {len(accuracies)} for {len(questions)}"
            )
        drawn: dict[str, list[float]] = {}
        by_id: dict[str, Question] = {}
        for question, accuracy in zip(questions, accuracies, strict=True):
            if not 0.0 <= accuracy <= 1.0:  # also refuses NaN
                raise ValueError(f"accuracies must be in [0, 1]; `{question.id}` has {accuracy!r}")
            drawn.setdefault(question.id, []).append(float(accuracy))
            by_id.setdefault(question.id, question)

        admitted: list[str] = []
        graduated: list[str] = []
        evicted: list[str] = []
        left: dict[str, BufferEntry] = {}
        for key, values in drawn.items():
            accuracy = sum(values) / len(values)
            entry = self._entries.get(key)
            if entry is not None:
                entry = dataclasses.replace(entry, visits=entry.visits + 1)
                self._entries[key] = entry
            if is_hard(accuracy, self.threshold):
                if entry is None:
                    self._entries[key] = BufferEntry(by_id[key], accuracy, step)
                    admitted.append(key)
            elif entry is not None:
                left[key] = self._entries.pop(key)
                graduated.append(key)
        while len(self._entries) > self.capacity:
            oldest = next(iter(self._entries))
            left[oldest] = self._entries.pop(oldest)
            evicted.append(oldest)
        return BufferUpdate(admitted, graduated, evicted, left)

    def sample(
        self, n: int, rng: np.random.Generator, *, exclude: Collection[str] = ()
    ) -> list[Question]:
        """`n` different questions, uniformly at random; all of them, shuffled, where B has fewer.

        `exclude` holds ids that must not be drawn, such as those of the step's new questions.
        Raises `ValueError` when `n` is negative.
        """
        if n < 0:
            raise ValueError(f"n must be at least 0, not {n!r}")
        pool = [entry for key, entry in self._entries.items() if key not in exclude]
        order: list[int] = rng.permutation(len(pool)).tolist()
        return [pool[i].question for i in order[:n]]

    def state_dict(self) -> dict[str, Any]:
        """The whole buffer as JSON values: settings, entries and their order."""
        entries = [
            {
                "question": question_to_dict(entry.question),
                "accuracy_at_admission": entry.accuracy_at_admission,
                "admitted_step": entry.admitted_step,
                "visits": entry.visits,
            }
            for entry in self.entries
        ]
        return {"capacity": self.capacity, "threshold": self.threshold, "entries": entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the buffer that wrote `state`, its capacity and threshold included.

        Raises `RunError`, before anything changes, when `state` cannot be read.
        """
        try:
            restored = PromptReplayBuffer(state["capacity"], state["threshold"])
            for saved in state["entries"]:
                question = question_from_dict(saved["question"])
                if question.id in restored._entries:
                    raise ValueError(f"question `{question.id}` is in it twice")
                restored._entries[question.id] = BufferEntry(
                    question,
                    saved["accuracy_at_admission"],
                    saved["admitted_step"],
                    saved["visits"],
                )
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise RunError(f"The saved replay buffer cannot be read: {error!r}") from None
        self.capacity, self.threshold = restored.capacity, restored.threshold
        self._entries = restored._entries
