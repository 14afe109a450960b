"""The questions of each step, with their media looked at ahead of time.

A file that was sound when the data was read may have gone since, or turn out damaged where only a
full decode finds it. Such a question is left out of its step and another takes its place, so no
image ends a run. Which one follows from the seed, the step and the files alone: a resumed run meets
the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from zppo.config import DataConfig
from zppo.data.media import load_frames, load_image
from zppo.data.order import PromptOrder
from zppo.errors import DataError
from zppo.types import Question

_SPARE = 7_919  # the stream of randomness that chooses replacements


@dataclass(frozen=True, slots=True)
class Left:
    """A question that was left out of a step, and why."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class StepQuestions:
    """X_new of a step, and what could not be part of it."""

    questions: list[Question]
    left: list[Left]


class StepLoader:
    """Reads the questions of a step in `config.workers` threads, and those of the next step while
    this one trains. Use it as a context manager, or `close` it."""

    def __init__(
        self, questions: Sequence[Question], seed: int, size: int, config: DataConfig
    ) -> None:
        """`size` questions a step, which counts from 0."""
        self.order = PromptOrder(len(questions), seed)
        self.questions, self.seed, self.size, self.config = questions, seed, size, config
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="zppo-data")
        self._ahead: dict[int, list[tuple[int, Future[Question | Left]]]] = {}

    def __enter__(self) -> StepLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def step(self, step: int) -> StepQuestions:
        """The `size` questions of `step`. Raises `DataError` when no question is left to take the
        place of one that cannot be read."""
        started = self._ahead.pop(step, None) or self._start(step)
        self._ahead = {step + 1: self._start(step + 1)}
        chosen = [index for index, _ in started]
        spare = self._spare(step, chosen)
        questions: list[Question] = []
        left: list[Left] = []
        for _, future in started:
            found = future.result()
            while isinstance(found, Left):
                left.append(found)
                index = next(spare, None)
                if index is None:
                    raise DataError(
                        f"Of {len(self.questions)} questions none is left for this step: "
                        f"{left[0].id}: {left[0].reason}"
                    )
                found = self._read(index)
            questions.append(found)
        return StepQuestions(questions, left)

    def usable(self, question: Question) -> Left | None:
        """Why a question cannot be shown just now, None when it can."""
        return _why_not(question, self.config)

    def _start(self, step: int) -> list[tuple[int, Future[Question | Left]]]:
        indices = self.order.batch(step, self.size)
        return [(index, self._pool.submit(self._read, index)) for index in indices]

    def _read(self, index: int) -> Question | Left:
        try:
            question = self.questions[index]
        except DataError as error:
            return Left(f"question {index + 1}", "", str(error))
        return self.usable(question) or question

    def _spare(self, step: int, chosen: Sequence[int]) -> Iterator[int]:
        """Questions that are not in the step, in an order of their own; drawn when first asked."""
        taken = set(chosen)
        for index in np.random.default_rng([self.seed, step, _SPARE]).permutation(self.order.n):
            if int(index) not in taken:
                yield int(index)


def readable(
    questions: Sequence[Question], config: DataConfig
) -> tuple[list[Question], list[Left]]:
    """The questions whose media can be decoded, in order, and the others."""
    with ThreadPoolExecutor(config.workers, thread_name_prefix="zppo-data") as pool:
        found = list(pool.map(lambda question: _why_not(question, config), questions))
    kept = [question for question, why in zip(questions, found, strict=True) if why is None]
    return kept, [why for why in found if why is not None]


def _why_not(question: Question, config: DataConfig) -> Left | None:
    try:
        decode_all(question, config)
    except DataError as error:
        return Left(question.id, question.source, str(error))
    return None


def decode_all(question: Question, config: DataConfig) -> None:
    """Decode the media of a question as a prompt of it will. Raises `DataError`."""
    for media in question.media:
        if media.kind == "image":
            load_image(media.parts[0])
        else:
            load_frames(media, config.max_frames, config.video_fps)
