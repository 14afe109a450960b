"""Whole numbers written out in English, up to the millions: `forty-two`, `one hundred and five`."""

from __future__ import annotations

import re

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
]
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_BELOW_100 = {word: number for number, word in enumerate(_SMALL)}
for _ten, _word in enumerate(_TENS, start=2):
    _BELOW_100[_word] = 10 * _ten
    _BELOW_100 |= {f"{_word} {_SMALL[one]}": 10 * _ten + one for one in range(1, 10)}
_SCALES = (("million", 10**6), ("thousand", 1000))
_MAX_CHARS = 120
_ONE = re.compile(r"^an? (?=(?:hundred|thousand|million)\b)")


def number_in_words(text: str) -> str:
    """`forty-two` as `42`, `three hours` as `3 hours`; anything else as it is."""
    if not text or len(text) > _MAX_CHARS or not text[0].isalpha():
        return text
    words = " ".join(text.casefold().replace("-", " ").replace(",", "").split())
    number = _read(_ONE.sub("one ", words))
    if number is not None:
        return str(number)
    head, _, rest = text.rpartition(" ")  # what is counted, in lower case: no title
    number = _read(head.casefold().replace("-", " ")) if rest.islower() else None
    return text if number is None else f"{number} {rest}"


def _read(words: str) -> int | None:
    """Millions, thousands and the rest, each below one thousand, in this order."""
    total = 0
    for name, scale in _SCALES:
        head, found, rest = f"{words} ".partition(f" {name} ")
        if not found:
            continue
        count = _below_1000(head)
        if not count:  # no number, or zero thousand
            return None
        total, words = total + count * scale, rest.strip().removeprefix("and ")
        if not words:
            return total
    last = _below_1000(words)
    return None if last is None or (total and not last) else total + last


def _below_1000(words: str) -> int | None:
    head, found, rest = f"{words} ".partition(" hundred ")
    if not found:
        return _BELOW_100.get(words)
    hundreds = _BELOW_100.get(head)
    below = _BELOW_100.get(rest.strip().removeprefix("and ")) if rest.strip() else 0
    if hundreds is None or not 1 <= hundreds <= 9 or below is None:
        return None
    return 100 * hundreds + below
