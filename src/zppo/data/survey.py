"""What a data set holds, counted in one pass: a few bytes a question."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from zppo.data.media import image_size
from zppo.data.overlap import Match, Reference, normal_text
from zppo.data.probes import digest
from zppo.data.questions import key_of
from zppo.data.skips import RowProblem
from zppo.errors import DataError
from zppo.types import Question

_INTEGER = re.compile(r"[+-]?\d{1,3}(,\d{3})+|[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+%?|[+-]?\d+%")
_SIGNS = re.compile(r"[\\^=/*+()\[\]{}<>]|\d\s*[a-z]\b")
_SHOWN = 20  # matches kept for people to look at


def answer_kind(question: Question) -> str:
    """What a gold answer looks like; what the rule has to compare."""
    answer = question.answer.strip()
    if question.kind == "free":
        return "free-form"
    if question.options:
        letters = [chr(ord("A") + i) for i in range(len(question.options))]
        if answer.strip("()").upper() in letters:
            return "option, by letter"
        return "option, by text" if answer in question.options else "not among the options"
    if _INTEGER.fullmatch(answer):
        return "integer"
    if _DECIMAL.fullmatch(answer):
        return "decimal or percentage"
    if answer.casefold() in ("yes", "no", "true", "false"):
        return "yes or no"
    if len(answer) == 1 and answer.isalpha():
        return "single letter"
    if _SIGNS.search(answer):
        return "expression"
    return "one word" if len(answer.split()) == 1 else "several words"


@dataclass(slots=True)
class Survey:
    """Counts over questions. Lengths are in characters, sides in pixels."""

    sources: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    answers: Counter[str] = field(default_factory=Counter[str])
    question_chars: array[int] = field(default_factory=lambda: array("i"))
    answer_chars: array[int] = field(default_factory=lambda: array("i"))
    widths: array[int] = field(default_factory=lambda: array("i"))
    heights: array[int] = field(default_factory=lambda: array("i"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    same_words: int = 0
    same_picture: int = 0
    known: int = 0
    alike: int = 0
    examples: list[Match] = field(default_factory=list[Match])


def survey(
    questions: Iterable[Question],
    length: Callable[[Question], int] | None = None,
    known: Reference | None = None,
) -> Survey:
    """Count. `length` gives prompt tokens; `known` holds the questions of benchmarks, for which
    every question is looked up."""
    found = Survey()
    words, pictures = set[int](), set[bytes]()
    for question in questions:
        _add(found, question)
        asked = key_of(normal_text(question.text))
        if not question.media:
            found.same_words += asked in words
            words.add(asked)
        for part in _parts(question):
            found.same_picture += part in pictures
            pictures.add(part)
        if length:
            try:
                found.tokens.append(length(question))
            except DataError:
                found.answers["no prompt can be made"] += 1
        if known and (match := known.match(question)):
            found.known += match.certain
            found.alike += not match.certain
            found.examples += [match] if len(found.examples) < _SHOWN and match.certain else []
    return found


def _add(found: Survey, question: Question) -> None:
    row = found.sources.setdefault(question.source, Counter())
    row["questions"] += 1
    row["options"] += question.options is not None
    row["free"] += question.kind == "free"
    for media in question.media:
        row[media.kind] += 1
        if media.kind == "image":
            try:
                width, height = image_size(media.parts[0])
            except DataError:
                continue
            found.widths.append(width)
            found.heights.append(height)
    found.answers[answer_kind(question)] += 1
    found.question_chars.append(len(question.text))
    found.answer_chars.append(len(question.answer))


def _parts(question: Question) -> Iterable[bytes]:
    """A short hash of each image, and of the first part of each video."""
    for media in question.media:
        try:
            yield digest(media.parts[0])[:8]
        except RowProblem:
            continue
