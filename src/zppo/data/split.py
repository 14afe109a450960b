"""Hold out questions, so that none is answered by having seen another.

Questions with the same words, or about the same picture, stay on one side. Which side follows from
the seed and the content alone: rows added later move no others.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zppo.data.overlap import normal_text
from zppo.data.probes import digest
from zppo.data.written import RowWriter
from zppo.errors import DataError
from zppo.types import Question

TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Questions on each side, by source."""

    train: Counter[str]
    validation: Counter[str]


def split_questions(
    questions: Sequence[Question], folder: Path, share: float, seed: int = 0
) -> SplitResult:
    """Write `train.jsonl` and `validation.jsonl` into a new `folder`; about `share` of the
    questions, 0 to 1, is held out. Raises `DataError`."""
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"`{folder}` is not empty; name a new folder.")
    groups = _Groups()
    for question in questions:
        groups.join(_links(question))
    sides = (Counter[str](), Counter[str]())
    writer = RowWriter(folder)
    with _lines(folder / TRAIN) as train, _lines(folder / VALIDATION) as validation:
        for question in questions:
            held = _chance(seed, groups.leader(_links(question)[0])) < share
            (validation if held else train).write(writer.line(question))
            sides[held][question.source] += 1
    if not (sides[0] and sides[1]):
        raise DataError(
            f"All {len(questions)} questions fall on one side: too few of them, or all linked by "
            f"the same picture. The files are in `{folder}`."
        )
    return SplitResult(*sides)


def _links(question: Question) -> list[int]:
    """What ties a question to others: its words when it has no media, else each of them."""
    keys = [digest(part) for media in question.media for part in media.parts[:1]]
    keys = keys or [normal_text(question.text).encode("utf-8")]
    return [int.from_bytes(hashlib.blake2b(k, digest_size=8).digest(), "big") for k in keys]


class _Groups:
    """Keys that belong together (union-find; a group goes by its smallest key)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def leader(self, key: int) -> int:
        while (above := self._parent.get(key, key)) != key:
            self._parent[key] = self._parent.get(above, above)
            key = above
        return key

    def join(self, keys: Sequence[int]) -> None:
        first = self.leader(keys[0])
        for key in keys[1:]:
            low, high = sorted((first, self.leader(key)))
            if low != high:
                self._parent[high] = low
            first = low


def _chance(seed: int, key: int) -> float:
    """A number in [0, 1) that a seed and a key decide."""
    text = f"{seed}/{key}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


@contextmanager
def _lines(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there only once it is whole."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"Cannot write `{path}`: {error.strerror}") from None
