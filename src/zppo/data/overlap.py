"""Do two data sets hold the same questions or pictures, up to spelling and file format?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zppo.data.media import load_image
from zppo.errors import DataError
from zppo.types import Question

WORDS = 8  # of an n-gram: shorter ones are shared by questions that only sound alike
SHARE = 0.5  # of a question's n-grams that make it one the other data set holds
BITS = 3  # of 64 in which two pictures' hashes may differ; four bands then share one whole
_PLAIN = 6  # a hash with fewer ones, or fewer zeros, says that the picture is nearly empty


def normal_text(text: str) -> str:
    """Words in lower case, one space apart: no punctuation, no markup, no forms of a letter."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def ngrams(text: str) -> set[int]:
    """Hashes of the runs of `WORDS` words of a text; of a shorter one, of all of it."""
    words = normal_text(text).split()
    runs = (words[i : i + WORDS] for i in range(max(len(words) - WORDS, 0) + 1))
    return {hash(tuple(run)) for run in runs}


def picture_hash(image: Image.Image) -> int | None:
    """64 bits of which each says whether a patch of the picture is darker than the one to its
    right (dHash). The same for other sizes and formats; None for a picture too plain to tell."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).flatten()
    if not _PLAIN <= bits.sum() <= 64 - _PLAIN:
        return None
    return int(np.packbits(bits).view(">u8")[0])


def picture_hashes(question: Question) -> Iterator[int]:
    """The hash of each image of a question that can be read and tells something."""
    for media in question.media:
        if media.kind == "image":
            try:
                found = picture_hash(load_image(media.parts[0]))
            except DataError:
                continue
            if found is not None:
                yield found


@dataclass(frozen=True, slots=True)
class Match:
    """A question that another data set seems to hold: the other's id, and what they share."""

    id: str
    other: str
    what: str


class Reference:
    """The questions and pictures to look for: a few hundred bytes each."""

    def __init__(self) -> None:
        self._grams: dict[int, str] = {}
        self._bands: dict[tuple[int, int], list[tuple[int, str]]] = {}

    def add(self, questions: Iterable[Question], name: str) -> None:
        """Look for these, which messages call `name`."""
        for question in questions:
            label = f"{name}: {question.id}"
            for gram in ngrams(_asked(question)):
                self._grams.setdefault(gram, label)
            for found in picture_hashes(question):
                for band in _bands(found):
                    self._bands.setdefault(band, []).append((found, label))

    def matches(self, question: Question) -> list[Match]:
        """What is known already of a question: its words, its pictures."""
        return [
            Match(question.id, other, what)
            for other, what in (self._by_words(question), self._by_picture(question))
            if other
        ]

    def _by_words(self, question: Question) -> tuple[str, str]:
        grams = ngrams(_asked(question))
        shared = [self._grams[g] for g in grams if g in self._grams]
        share = len(shared) / len(grams)
        # A question about a picture may be asked of many: there the picture decides.
        if share < SHARE or (question.media and len(normal_text(question.text).split()) < WORDS):
            return "", ""
        return max(set(shared), key=shared.count), f"{share:.0%} of its words"

    def _by_picture(self, question: Question) -> tuple[str, str]:
        for found in picture_hashes(question):
            for band in _bands(found):
                for other, label in self._bands.get(band, []):
                    bits = (found ^ other).bit_count()
                    if bits <= BITS:
                        return label, f"its picture ({bits} of 64 bits differ)"
        return "", ""


def _asked(question: Question) -> str:
    return " ".join((question.text, *(question.options or ())))


def _bands(found: int) -> Iterator[tuple[int, int]]:
    return ((i, found >> (16 * i) & 0xFFFF) for i in range(4))
