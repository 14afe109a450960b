r"""Answers of several parts: lists and sets in any order, tuples and matrices in theirs."""

from __future__ import annotations

import re
from collections.abc import Callable

from zppo.rewards.brackets import enclosed, split_top
from zppo.rewards.evaluate import read
from zppo.rewards.limits import MAX_ITEMS
from zppo.rewards.nodes import operations
from zppo.rewards.relations import sides

_STRONG = re.compile(r",? (?:and|or) |;|,(?= )")
_COMMA = re.compile(r",? (?:and|or) |;|,")
_THOUSANDS = re.compile(r"(?<![\d.])-?(?:\\\$ ?)?\d{1,3}(?:,\d{3})+(?![\d,])")
_MATRIX = re.compile(
    r"\\begin ?\{([pbvV]?)(?:small)?(?:matrix|array)\*?\}(?: ?\{[lcr| ]*\})?(.*)\\end ?\{[^{}]*\}"
)
_ROW = re.compile(r"\\\\")
_CELL = re.compile(r"&")

Same = Callable[[str, str], bool]


def same_lists(answer: str, gold: str, same: Same) -> bool | None:
    """Two cleaned texts as lists or sets; None when both can be read as one item."""
    ours, theirs = _readings(answer), _readings(gold)
    whole = ([answer], [gold])
    pairs = [(x, y) for x in ours for y in theirs if (x, y) != whole]
    if any(_in_any_order(x, y, same) for x, y in pairs):
        return True
    return None if [answer] in ours and [gold] in theirs else False


def same_coordinates(answer: str, gold: str, same: Same) -> bool | None:
    """`x=1, y=2` beside the point (1,2) or bare values, which go by the alphabet of the names.

    None unless exactly one of the two names its values.
    """
    named = _coordinates(answer), _coordinates(gold)
    if (named[0] is None) == (named[1] is None):
        return None
    found, other = (named[0], gold) if named[0] else (named[1], answer)
    point = _tuple(other)
    items = split_top(other, _COMMA) if point is None else point[1]
    if found is None or len(items) != len(found) or (point and point[0] != "()"):
        return None
    pairs = zip(items, found, strict=True)
    return all(same(x, y) if named[1] is None else same(y, x) for x, y in pairs)


def _coordinates(text: str) -> list[str] | None:
    """The values of an answer that gives several letters one value each, by the alphabet."""
    if text.count("=") < 2:
        return None
    pairs = [sides(item) for item in split_top(text, _COMMA)[:MAX_ITEMS]]
    values = {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and len(pair[0]) == 1}
    if len(values) < len(pairs) or not all(name.isalpha() for name in values):
        return None
    return [values[name] for name in sorted(values)]


def same_tuples(answer: str, gold: str, same: Same) -> bool | None:
    """Two cleaned texts as tuples or matrices; None when neither is one."""
    matrices = _matrix(answer), _matrix(gold)
    if any(matrices):
        ours, theirs = matrices[0] or _nested(answer), matrices[1] or _nested(gold)
        return _same_matrix(ours, theirs, same)
    tuples = _tuple(answer), _tuple(gold)
    if any(tuples):
        a, b = tuples
        return a is not None and b is not None and a[0] == b[0] and _in_order(a[1], b[1], same)
    return None


def _tuple(text: str) -> tuple[str, list[str]] | None:
    """(brackets, items) of what stands in ( ) or [ ] and has several items."""
    found = enclosed(text)
    if found is None or "\\{" in found[0]:
        return None
    items = split_top(found[1], re.compile("[,;]"))
    return (found[0] + found[2], items) if 1 < len(items) <= MAX_ITEMS else None


def _readings(text: str) -> list[list[str]]:
    """The items of a list or set. `1,234` is one number and, failing that, two."""
    found = enclosed(sides(text)[-1])  # x \in \{1, 2\} lists what the set does
    if found is not None and found[0] == "\\{" and found[2] == "\\}":
        text = found[1]
    grouped = _THOUSANDS.search(text) is not None
    readings = [split_top(text, _STRONG)] if grouped else []
    readings.append(split_top(text, _COMMA))
    return [_both_signs(items) for items in readings]


def _both_signs(items: list[str]) -> list[str]:
    r"""Each item with a \pm as the two items it stands for."""
    result: list[str] = []
    for item in items:
        node = read(item.split("=")[-1]) if "\\pm" in item or "\\mp" in item else None
        if node is not None and operations(node) & {"pm", "mp"}:
            plus = item.replace("\\pm", "+").replace("\\mp", "-")
            minus = item.replace("\\pm", "-").replace("\\mp", "+")
            result += [plus, minus]
        else:
            result.append(item)
    return result


def _in_order(a: list[str], b: list[str], same: Same) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def _in_any_order(a: list[str], b: list[str], same: Same) -> bool:
    """As multisets."""
    if len(a) != len(b) or len(a) > MAX_ITEMS:
        return False
    left = list(b)
    for item in a:
        match = next((i for i, other in enumerate(left) if same(item, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _matrix(text: str) -> tuple[str, list[list[str]]] | None:
    """(kind, rows). Round and square brackets are one kind, the bars of a determinant another."""
    match = _MATRIX.fullmatch(text)
    brackets = enclosed(text)
    if match is None and brackets is not None and brackets[1].startswith("\\begin"):
        match = _MATRIX.fullmatch(brackets[1])
    if match is None:
        return None
    rows = [row for row in split_top(match[2], _ROW) if row]
    cells = [split_top(row, _CELL) for row in rows[:MAX_ITEMS]]
    kind = "bars" if match[1] in ("v", "V") else "matrix"
    return (kind, cells) if all(len(row) <= MAX_ITEMS for row in cells) else None


def _nested(text: str) -> tuple[str, list[list[str]]] | None:
    """[[1,2],[3,4]] beside a matrix is one."""
    outer = _tuple(text)
    rows = [_tuple(item) for item in outer[1]] if outer is not None else []
    if not rows or not all(row is not None and row[0] == "[]" for row in rows):
        return None
    return "matrix", [row[1] for row in rows if row is not None]


def _same_matrix(
    a: tuple[str, list[list[str]]] | None, b: tuple[str, list[list[str]]] | None, same: Same
) -> bool:
    if a is None or b is None or a[0] != b[0] or len(a[1]) != len(b[1]):
        return False
    return all(_in_order(x, y, same) for x, y in zip(a[1], b[1], strict=True))
