r"""Sets of reals: intervals, unions of them, and the inequalities that describe them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from zppo.rewards.brackets import enclosed, split_top
from zppo.rewards.limits import MAX_ITEMS
from zppo.rewards.relations import is_name

_UNION = re.compile(r"\\cup(?![A-Za-z])|\bor\b")
_COMMA = re.compile(r"[,;]")
_ORDER = re.compile(r"\\(?:le|ge|ne)(?![A-Za-z])|<=|>=|!=|<|>")
_SPELLING = {"<=": "\\le", ">=": "\\ge", "!=": "\\ne"}
_FLIP = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
_MEMBER = re.compile(r"^(.{1,20}?)\\in(?![A-Za-z])")
_LOW, _HIGH = "-\\infty", "\\infty"

Same = Callable[[str, str], bool]


class Interval(NamedTuple):
    low: str
    low_closed: bool
    high: str
    high_closed: bool


def is_ordered(text: str) -> bool:
    r"""Whether a cleaned text speaks of intervals at all, beyond what a pair could be."""
    return bool(_ORDER.search(text)) or "\\cup" in text or "\\mathbb" in text or _is_outward(text)


def same_union(answer: str, gold: str, same: Same) -> bool:
    """Whether two cleaned texts are unions of the same intervals, in any order."""
    first, second = _union(answer), _union(gold)
    if first is None or second is None or len(first[1]) != len(second[1]):
        return False
    if first[0] and second[0] and first[0] != second[0]:
        return False  # x > 2 is not y > 2
    left = list(second[1])
    for interval in first[1]:
        match = next((other for other in left if _same_interval(interval, other, same)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_interval(a: Interval, b: Interval, same: Same) -> bool:
    closed = a.low_closed == b.low_closed and a.high_closed == b.high_closed
    return closed and same(a.low, b.low) and same(a.high, b.high)


def _union(text: str) -> tuple[str, list[Interval]] | None:
    """The variable, empty when none is named, and the intervals."""
    name = ""
    if member := _MEMBER.match(text):
        name, text = member[1].strip(), text[member.end() :].strip()
    intervals: list[Interval] = []
    # Brackets turned outward do not balance, but enclose no \\cup either.
    pieces = _UNION.split(text) if _is_outward(text) else split_top(text, _UNION)
    for piece in map(_inward, map(str.strip, pieces[:MAX_ITEMS])):
        parts = [piece] if _COMMA.search(piece) is None else split_top(piece, _COMMA)
        for part in parts:
            found = _inequality(part) or _interval(part)
            if found is None or (name and found[0] and name != found[0]):
                return None
            name = name or found[0]
            intervals += found[1]
    return name, intervals


def _is_outward(text: str) -> bool:
    return text.startswith("]") or text.endswith("[")


def _inward(text: str) -> str:
    """]0,1[ as (0,1)."""
    text = "(" + text[1:] if text.startswith("]") else text
    return text[:-1] + ")" if text.endswith("[") else text


def _interval(text: str) -> tuple[str, list[Interval]] | None:
    if text in ("\\mathbb{R}", "\\mathbb R"):
        return "", [Interval(_LOW, False, _HIGH, False)]
    found = enclosed(text)
    if found is None:
        return None
    opener, inside, closer = found
    items = split_top(inside, _COMMA)
    if opener == "\\{" and closer == "\\}":  # isolated points
        return "", [Interval(item, True, item, True) for item in items]
    if len(items) != 2 or "\\" in opener + closer:
        return None
    return "", [Interval(items[0], opener == "[", items[1], closer == "]")]


def _inequality(text: str) -> tuple[str, list[Interval]] | None:
    orders = [_SPELLING.get(m[0], m[0]) for m in _ORDER.finditer(text)]
    if len(orders) not in (1, 2):
        return None
    parts = split_top(text, _ORDER)
    if len(parts) != len(orders) + 1 or not all(parts):
        return None
    if len(orders) == 2:
        return _between(parts, orders)
    (left, right), (order,) = parts, orders
    if not is_name(left):
        left, right, order = right, left, _FLIP[order]
    if not is_name(left) or is_name(right):
        return None
    below = Interval(_LOW, False, right, order == "\\le")
    above = Interval(right, order == "\\ge", _HIGH, False)
    wanted = {"<": [below], "\\le": [below], ">": [above], "\\ge": [above], "\\ne": [below, above]}
    return left, wanted[order]


def _between(parts: list[str], orders: list[str]) -> tuple[str, list[Interval]] | None:
    low, name, high = parts
    if {orders[0][:2], orders[1][:2]} <= {">", "\\g"}:
        low, high, orders = high, low, [_FLIP[order] for order in reversed(orders)]
    if not set(orders) <= {"<", "\\le"} or not is_name(name):
        return None
    return name, [Interval(low, orders[0] == "\\le", high, orders[1] == "\\le")]
