"""A sequence of questions that are read from their file when they are asked for.

What is held in memory is 25 bytes a question, whatever it shows: where its row lies, the row's
number, and its id as 64 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from zppo.data.builder import QuestionBuilder
from zppo.data.raw import RawRow
from zppo.data.skips import RowProblem, Skip
from zppo.data.sources import Source
from zppo.errors import DataError
from zppo.types import Question

_CHUNK = 256  # questions read at a time by an iteration


@dataclass(frozen=True, slots=True)
class RowIndex:
    """N usable rows, in order.

    places    (N,) int64: where `Source.read` finds the row
    numbers   (N,) int64: the row's number in messages
    keys      (N,) uint64: the content id as a number, or a hash of the id the row gives
    given     (N,) bool: whether the row gives its id
    """

    places: np.ndarray
    numbers: np.ndarray
    keys: np.ndarray
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def select(self, positions: np.ndarray) -> RowIndex:
        return RowIndex(*(a[positions] for a in (self.places, self.numbers, self.keys, self.given)))


class LazyQuestions(Sequence[Question]):
    """Questions of one source. Any thread may read them."""

    def __init__(self, source: Source, builder: QuestionBuilder, index: RowIndex) -> None:
        self._source, self._builder, self._rows = source, builder, index

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> RowIndex:
        """Where they lie."""
        return self._rows

    def at(self, rows: RowIndex) -> LazyQuestions:
        """The questions of other rows of the same source; nothing is read."""
        return LazyQuestions(self._source, self._builder, rows)

    @property
    def id_column(self) -> str:
        return self._builder.columns.id

    @overload
    def __getitem__(self, position: int) -> Question: ...
    @overload
    def __getitem__(self, position: slice) -> LazyQuestions: ...
    def __getitem__(self, position: int | slice) -> Question | LazyQuestions:
        """Raises `DataError` when the row is no longer what it was."""
        if isinstance(position, slice):
            return self.select(np.arange(len(self))[position])
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        position %= len(self)
        return self._read(position, position + 1)[0]

    def __iter__(self) -> Iterator[Question]:
        for start in range(0, len(self), _CHUNK):
            yield from self._read(start, start + _CHUNK)

    def select(self, positions: Sequence[int] | np.ndarray) -> LazyQuestions:
        """The questions at `positions`, in that order; nothing is read."""
        return self.at(self._rows.select(np.asarray(positions, dtype=np.int64)))

    def _read(self, start: int, stop: int) -> list[Question]:
        rows = self._source.read(self._rows.places[start:stop].tolist())
        return [self._question(row, start + i) for i, row in enumerate(rows)]

    def _question(self, row: RawRow, position: int) -> Question:
        id = "" if self._rows.given[position] else content_id_of(int(self._rows.keys[position]))
        try:
            return self._builder.build(row, id)
        except RowProblem as problem:
            number = int(self._rows.numbers[position])
            raise DataError(
                f"{self._source.where}, {problem.at(number)} (it was fine before)"
            ) from None


def select(questions: Sequence[Question], positions: Sequence[int]) -> Sequence[Question]:
    """The questions at `positions`, in that order; read now only if they already are in memory."""
    if isinstance(questions, LazyQuestions):
        return questions.select(positions)
    return [questions[i] for i in positions]


def key_of(id: str) -> int:
    """64 bits of an id that a row gives."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")


def content_id_of(key: int) -> str:
    """A content id, 16 hex digits, from its key."""
    return f"{key:016x}"


def first_of_each(index: RowIndex) -> tuple[RowIndex, np.ndarray, np.ndarray]:
    """The rows whose key no earlier row has; the positions of the others; and, for each of those,
    the position of the first row with its key.

    Two different ids share a key once in 40 million data sets of a million rows.
    """
    order = np.argsort(index.keys, kind="stable")
    keys = index.keys[order]
    starts = np.concatenate([[True], keys[1:] != keys[:-1]])
    if starts.all():
        return index, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    earliest = order[np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))]
    again, first = order[~starts], earliest[~starts]
    in_order = np.argsort(again)
    kept = np.sort(order[starts])
    return index.select(kept), again[in_order], first[in_order]


def duplicate_skip(index: RowIndex, position: int, first: int, id: str, column: str) -> Skip:
    """Why the row at `position` was left out."""
    what = "id" if index.given[position] else "content"
    detail = f"same {what} as row {index.numbers[first]} ({id})"
    return Skip(int(index.numbers[position]), column, f"duplicate {what}", detail)
