"""Whether two short answers say the same thing."""

from __future__ import annotations

import re
from fractions import Fraction

_WRAPPER = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\{(\d{1,50})\}\{(\d{1,50})\}")


def equivalent(answer: str, gold: str, options: tuple[str, ...] | None = None) -> bool:
    left, right = _clean(answer), _clean(gold)
    if left == right:
        return left != ""
    numbers = _number(left), _number(right)
    return numbers[0] is not None and numbers[0] == numbers[1]


def _clean(text: str) -> str:
    text = _WRAPPER.sub(r"\1", text[:2000])
    text = _FRACTION.sub(r"\1/\2", text)
    return re.sub(r"[\s$%°]|\\%|\^\\circ|\\[,!;]", "", text).rstrip(".").casefold()


def _number(text: str) -> Fraction | None:
    text = text.replace(",", "")
    if not re.fullmatch(r"[+-]?\d{0,200}(\.\d{1,200})?(/\d{1,200})?", text):
        return None
    try:
        top, _, bottom = text.partition("/")
        return Fraction(top) / Fraction(bottom or 1)
    except (ValueError, ZeroDivisionError):
        return None
