r"""Equations: `x = 5` against 5, two equations against each other, and `a = b = c`."""

from __future__ import annotations

import re
from collections.abc import Callable

from zppo.rewards.brackets import split_top
from zppo.rewards.evaluate import close, values
from zppo.rewards.normalize import compact

_EQUALS = re.compile(r"(?<![<>!:=])=(?!=)|\\equiv(?![A-Za-z])")
_ABOUT = re.compile(r"\\(?:approx|sim)(?![A-Za-z])")
_IN = re.compile(r"\\in(?![A-Za-z])")
_SCRIPT = re.compile(r"[_^] ?(?:\{[^{}]*\}|\w)|\([^()]*\)|\\frac ?\{[^{}]*\} ?\{[^{}]*\}")
_NAME = re.compile(r"[A-Za-z\\|(:'][A-Za-z\\|(){}' .:,-]*")
_TERM = r"\d* ?\\?[A-Za-z][A-Za-z']* ?"
_SUM = re.compile(rf"-?{_TERM}(?:[+*/-] ?{_TERM})*")

Same = Callable[[str, str], bool]


def sides(text: str) -> list[str]:
    """The sides of a chain of equations, one for what is none. `x \\in S` is read as `x = S`."""
    parts = split_top(text, _EQUALS) if "=" in text or "equiv" in text else [text]
    if len(parts) == 1 and "\\in" in text:
        parts = split_top(text, _IN)
    return parts if all(parts) else [text]


def about(text: str) -> list[str]:
    """The sides of an approximation that hold to one part in a hundred, else the text alone."""
    if "\\approx" not in text and "\\sim" not in text:
        return [text]
    parts = split_top(text, _ABOUT)
    parts = parts[1:] if is_name(parts[0]) and len(parts) > 1 else parts
    numbers = [values(sides(part)[-1]) for part in parts]
    if any(n is None or len(n) != 1 or len(n[0]) != 1 for n in numbers):
        return [text]
    try:
        found = [complex(n[0][0]) for n in numbers if n is not None]
    except OverflowError:  # an exact value beyond any float
        return [text]
    near = all(abs(z - found[0]) <= 0.01 * abs(found[0]) for z in found)
    return parts if near else [text]


def same_equation(answer: list[str], gold: list[str], same: Same) -> bool:
    """Two texts by their sides, where at least one is an equation."""
    if len(gold) == 1:
        return _states(answer, gold[0], same, sums=True)
    if len(answer) == 1:
        return _states(gold, answer[0], same, sums=False)
    if compact(answer[0]) == compact(gold[0]) and all(same(x, gold[-1]) for x in answer[1:]):
        return True
    return len(answer) == len(gold) == 2 and _proportional(answer, gold)


def _states(equation: list[str], value: str, same: Same, sums: bool) -> bool:
    """Whether an equation says of a name, and of nothing else, that it is `value`."""
    first, *others = equation
    named = is_name(first) or (sums and _is_sum(first))
    claims = others if named else equation
    return all(same(claim, value) for claim in claims)


def is_name(text: str) -> bool:
    r"""What an answer is the value of: x, f(x), x_1, \angle ABC, the area, P(A)."""
    if len(text) > 80:
        return False
    bare = _SCRIPT.sub("", text).strip() or text
    return _NAME.fullmatch(bare) is not None and not re.search(
        r"\\(?:sqrt|pi|infty)(?![A-Za-z])", bare
    )


def _is_sum(text: str) -> bool:
    """A combination the question may ask for: m+n, 100a+b. Not x+1, which asks for x."""
    if len(text) > 80 or _SUM.fullmatch(_SCRIPT.sub("", text).strip()) is None:
        return False
    return len(set(re.findall(r"\\[A-Za-z]+|[A-Za-z]", text))) > 1


def _proportional(a: list[str], b: list[str]) -> bool:
    """lhs - rhs of one is a constant multiple of lhs - rhs of the other, not zero."""
    left, right = (values(f"({x})-({y})") for x, y in (a, b))
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return False
    u, v = left[0], right[0]
    if len(u) != len(v) or len(u) < 2 or not all(u) or not all(v):
        return False
    return all(close(x * v[0], y * u[0]) for x, y in zip(u, v, strict=True))
