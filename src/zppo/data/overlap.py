"""Do two data sets hold the same questions or pictures, up to spelling and file format?"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zppo.data.media import load_image
from zppo.data.questions import key_of
from zppo.errors import DataError
from zppo.types import Question

WORDS = 8  # of an n-gram: shorter ones are shared by questions that only sound alike
SHARE = 0.5  # of a question's n-grams that make it one the other data set holds
BITS = 30  # of 768 in which the hashes of one picture in two formats or sizes may differ
_SIDE = 16
_PLAIN = 72  # a hash with fewer ones, or fewer zeros, says that the picture is nearly empty


def normal_text(text: str) -> str:
    """Words in lower case, one space apart: no punctuation, no markup, no forms of a letter."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def ngrams(text: str) -> set[int]:
    """Hashes of the runs of `WORDS` words of a text; of a shorter one, of all of it."""
    words = normal_text(text).split()
    runs = (words[i : i + WORDS] for i in range(max(len(words) - WORDS, 0) + 1))
    return {key_of(" ".join(run)) for run in runs}


def picture_hash(image: Image.Image) -> np.ndarray | None:
    """768 bits as (12,) uint64, of which each says whether a patch of the picture is darker in one
    colour than the patch to its right (dHash). Nearly the same for other sizes and formats; None
    for a picture too plain to tell."""
    small = image.convert("RGB").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    patches = np.asarray(small, dtype=np.int16)
    bits = (patches[:, 1:] > patches[:, :-1]).flatten()
    if not _PLAIN <= bits.sum() <= bits.size - _PLAIN:
        return None
    return np.packbits(bits).view(np.uint64)


def picture_hashes(question: Question) -> Iterator[np.ndarray]:
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
    """A question that another data set may hold: the other's id, and what they share. `certain`
    when that is all they could share: the words of a text question, words and picture of another.
    Templates share words, and many questions may be asked of one picture."""

    id: str
    other: str
    what: str
    certain: bool


class Reference:
    """The questions and pictures to look for: some hundred bytes each."""

    def __init__(self) -> None:
        self._grams: dict[int, str] = {}
        self._hashes: list[np.ndarray] = []
        self._shown: list[str] = []
        self._table = np.zeros((0, 12), dtype=np.uint64)

    def add(self, questions: Iterable[Question], name: str) -> None:
        """Look for these, which messages call `name`."""
        for question in questions:
            label = f"{name}: {question.id}"
            for gram in ngrams(_asked(question)):
                self._grams.setdefault(gram, label)
            for found in picture_hashes(question):
                self._hashes.append(found)
                self._shown.append(label)
        self._table = np.array(self._hashes, dtype=np.uint64).reshape(-1, 12)

    def match(self, question: Question) -> Match | None:
        """What is known already of a question: its words, its pictures, or both."""
        words, by_words = self._by_words(question)
        picture, by_picture = self._by_picture(question)
        if not words and not picture:
            return None
        certain = bool(words and picture) or (bool(words) and not question.media)
        what = " and ".join(filter(None, (by_words, by_picture)))
        return Match(question.id, picture or words, what, certain)

    def _by_words(self, question: Question) -> tuple[str, str]:
        grams = ngrams(_asked(question))
        shared = [self._grams[g] for g in grams if g in self._grams]
        share = len(shared) / len(grams)
        if share < SHARE:
            return "", ""
        return max(sorted(set(shared)), key=shared.count), f"{share:.0%} of its words"

    def _by_picture(self, question: Question) -> tuple[str, str]:
        for found in picture_hashes(question):
            if not len(self._table):
                break
            bits = np.bitwise_count(self._table ^ found).sum(axis=1)
            nearest = int(bits.argmin())
            if bits[nearest] <= BITS:
                return self._shown[nearest], f"its picture ({bits[nearest]} of 768 bits differ)"
        return "", ""


def _asked(question: Question) -> str:
    return " ".join((question.text, *(question.options or ())))
