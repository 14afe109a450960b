"""Answers in words: colours, names, yes and no, numbers written out."""

from __future__ import annotations

import re

_RUN = r"(?:[^\W\d_]+(?:(?<=[^\W\d_]{2})[-/'’][^\W\d_]+)*)"  # noqa: RUF001
_WORDLIKE = re.compile(rf"{_RUN}(?:(?: ?& ?|[.,]? |[.,]){_RUN})*\.?")
_ARTICLE = re.compile(r"^(?:the|a|an) (?=\w{2})")
_FORMULA = re.compile(r"[\\^_+*/=<>(){}|]")
_WORD = re.compile(r"(?<![^ ])[^\W\d_](?:\.?[^\W\d_])+(?:-\w+)*\.?(?![^ ])")
# A full stop or comma within a number and the sign before one are no punctuation.
_MARKS = re.compile(r"[!?\"]|\.(?!\d)")
_JOINTS = re.compile(r",(?!\d)|(?<!\d),|(?<=\w)-|-(?![\d.])")
_NOTHING = frozenset(
    ("no solution", "no solutions", "no real solution", "no real solutions", "empty set")
)
# British and American spellings of one word.
_SPELLINGS = {
    "grey": "gray", "colour": "color", "colours": "colors", "coloured": "colored",
    "centre": "center", "centres": "centers", "metre": "meter", "metres": "meters",
    "litre": "liter", "litres": "liters", "theatre": "theater", "fibre": "fiber",
    "aluminium": "aluminum", "jewellery": "jewelry", "tyre": "tire", "tyres": "tires",
    "neighbour": "neighbor", "neighbours": "neighbors", "catalogue": "catalog",
}  # fmt: skip
_DECIDED = re.compile(r"(yes|no|true|false)\s*[,.;:–-]\s*+(?!(?:yes|no|true|false)\b)\D+", re.I)  # noqa: RUF001


def is_words(text: str) -> bool:
    """Letters and the punctuation of prose only. Such an answer is never algebra: `on` is not
    `no`, nor `ba` `ab`."""
    return len(text) > 1 and _WORDLIKE.fullmatch(text) is not None and text not in ("pi", "inf")


def is_prose(text: str) -> bool:
    """Words among figures: 3:30 PM, Room 12. Without operators, so case means nothing."""
    return _FORMULA.search(text) is None and _WORD.search(text) is not None


def fold(text: str) -> str:
    """The words of a cleaned text: lower case, without article, hyphens, commas and full stops."""
    text = text.replace("\\emptyset", "empty set").replace("\\", " ")
    words = _JOINTS.sub(" ", _MARKS.sub("", text.casefold())).split()
    text = " ".join(_SPELLINGS.get(word, word) for word in words)
    text = _ARTICLE.sub("", text)
    return "empty set" if text in _NOTHING else text


def same_words(answer: str, gold: str) -> bool:
    """Equal as prose. An answer of yes or no may give its reason after a comma."""
    if fold(answer) == fold(gold) != "":
        return True
    decided = _DECIDED.fullmatch(answer)
    return decided is not None and decided[1].casefold() == fold(gold)
