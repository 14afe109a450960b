r"""The value of an expression at a point, and equality by values.

Values are exact fractions for as long as the expression is rational, and complex floats after the
first irrational step. Two expressions are equal when they agree at three fixed pseudo-random
points (Schwartz-Zippel: polynomials that differ agree by chance with probability about 1e-9);
variables stand for positive rationals there, as lengths and counts do in answers. Where an absolute
value, a root or a power is in play they have to agree for negative variables too, if both are real
there: \sqrt{x^2} is |x|, not x. Exact values have to be equal; floats agree to ten digits, so a
rounded decimal is not the irrational it rounds.
"""

from __future__ import annotations

import cmath
import math
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from zppo.rewards.expression import parse
from zppo.rewards.limits import MAX_BITS, MAX_FACTORIAL, Unreadable
from zppo.rewards.nodes import Node, Num, Sym, operations, variables

Value = Fraction | complex
TOLERANCE = 1e-10
_EVEN = frozenset(("abs", "root", "pow"))  # where |x| may pass for x
_CONSTANTS: dict[str, Value] = {"pi": complex(math.pi), "e": complex(math.e), "i": 1j}


@lru_cache(maxsize=8192)
def read(text: str) -> Node | None:
    """The tree of a cleaned `text`, None when it is not an expression."""
    try:
        return parse(text)
    except (ValueError, ArithmeticError, RecursionError):
        return None


@lru_cache(maxsize=8192)
def values(text: str, negative: bool = False) -> tuple[tuple[Value, ...], ...] | None:
    r"""The values of a cleaned `text` at the points, one tuple for each choice of its \pm.

    None when it is not an expression or has no value there. A constant has one point.
    """
    node = read(text)
    if node is None:
        return None
    try:
        points = (-1,) if negative else (0, 1, 2) if variables(node) - _CONSTANTS.keys() else (0,)
        signs = (1, -1) if operations(node) & {"pm", "mp"} else (1,)
        return tuple(tuple(_Evaluator(p, sign).value(node) for p in points) for sign in signs)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def same_value(a: str, b: str) -> bool:
    r"""Whether two cleaned texts are expressions of one value each, and of the same."""
    if not _agree(values(a), values(b)):
        return False
    nodes = [node for node in (read(a), read(b)) if node]
    if not any(operations(node) & _EVEN and variables(node) for node in nodes):
        return True
    below = values(a, negative=True), values(b, negative=True)
    return None in below or _agree(*below)


def _agree(
    a: tuple[tuple[Value, ...], ...] | None, b: tuple[tuple[Value, ...], ...] | None
) -> bool:
    if a is None or b is None or len(a) != 1 or len(b) != 1:
        return False
    if len(a[0]) == len(b[0]):
        return all(map(close, a[0], b[0]))
    # A constant has one point: an expression is equal to it where it is the same at all of its own.
    few, many = sorted((a[0], b[0]), key=len)
    return len(few) == 1 and all(close(few[0], value) for value in many)


def close(a: Value, b: Value) -> bool:
    """Equal: exactly for fractions, to TOLERANCE otherwise."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    try:
        x, y = complex(a), complex(b)
    except OverflowError:
        return False
    return abs(x - y) <= TOLERANCE * max(abs(x), abs(y)) + 1e-15


class _Evaluator:
    def __init__(self, point: int, sign: int) -> None:
        self.point = point
        self.sign = sign

    def value(self, node: Node) -> Value:
        if isinstance(node, Num):
            return node.value
        if isinstance(node, Sym):
            return _CONSTANTS.get(node.name) or _coordinate(node.name, self.point)
        args = [self.value(arg) for arg in node.args]
        value = _bounded(self._apply(node.name, args))
        if self.point < 0 and isinstance(value, complex) and value.imag:
            raise Unreadable("not real")
        return value

    def _apply(self, name: str, args: list[Value]) -> Value:
        if name == "+":
            return _fold(args, lambda a, b: a + b)
        if name == "*":
            return _fold(args, lambda a, b: a * b)
        if name in ("neg", "pm", "mp"):
            return args[0] * {"neg": -1, "pm": self.sign, "mp": -self.sign}[name]
        if name in _OPERATIONS:
            return _OPERATIONS[name](*args)
        return _FUNCTIONS[name](_complex(args[0]))


def _coordinate(name: str, point: int) -> Fraction:
    """Where a variable stands: between 1 and 3, the same for every expression it occurs in."""
    seed = zlib.crc32(f"{abs(point)}:{name}".encode())
    value = Fraction(1009 + seed % 2003, 1009)
    return -value if point < 0 else value


def _fold(args: list[Value], combine: Callable[[Value, Value], Value]) -> Value:
    total = args[0]
    for arg in args[1:]:
        total = _bounded(combine(total, arg))
    return total


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction):
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            raise Unreadable("an exact value too large")
        return value
    if not cmath.isfinite(value):
        raise Unreadable("not finite")
    return complex(value)


def _complex(value: Value) -> complex:
    return complex(value)


def _integer(value: Value) -> int | None:
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else None


def _power(base: Value, exponent: Value) -> Value:
    n = _integer(exponent)
    if n is not None and isinstance(base, Fraction):
        bits = base.numerator.bit_length() + base.denominator.bit_length()
        if base not in (-1, 0, 1) and abs(n) * (bits - 1) > 2 * MAX_BITS:
            raise Unreadable("a power too large")
        return base**n if abs(n) <= MAX_BITS else base ** (abs(n) % 2 + 2)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        root = _exact_root(base, exponent.denominator)
        if root is not None:
            return _power(root, Fraction(exponent.numerator))
        if base > 0:
            return complex(float(base) ** float(exponent))
    return _complex(base) ** _complex(exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The non-negative rational root, None when there is none."""
    if value < 0 or degree > 64:
        return None
    top, bottom = (_integer_root(n, degree) for n in (value.numerator, value.denominator))
    return None if top is None or bottom is None else Fraction(top, bottom)


def _integer_root(value: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(value)
    elif value.bit_length() > 150:
        return None
    else:
        root = round(value ** (1 / degree))
    return root if root**degree == value else None


def _root(radicand: Value, degree: Value) -> Value:
    n = _integer(degree)
    if n is None or not 2 <= n <= 64:
        raise Unreadable("a root out of bounds")
    if isinstance(radicand, Fraction) and radicand < 0 and n % 2:
        return -_power(-radicand, Fraction(1, n))  # the real root, as the sign means
    return _power(radicand, Fraction(1, n))


def _factorial(value: Value) -> Value:
    n = _integer(value)
    if n is not None:
        if not 0 <= n <= MAX_FACTORIAL:
            raise Unreadable("a factorial out of bounds")
        return Fraction(math.factorial(n))
    return complex(math.gamma(_real(value) + 1))


def _double_factorial(value: Value) -> Value:
    n = _integer(value)
    if n is None or not 0 <= n <= MAX_FACTORIAL:
        raise Unreadable("a double factorial out of bounds")
    return Fraction(math.prod(range(n, 0, -2)))


def _binomial(upper: Value, lower: Value) -> Value:
    n, k = _integer(upper), _integer(lower)
    if n is not None and k is not None:
        if not 0 <= n <= MAX_FACTORIAL or k < 0:
            raise Unreadable("a binomial out of bounds")
        return Fraction(math.comb(n, k))
    below = _real(_factorial(lower)) * _real(_factorial(upper - lower))
    return complex(_real(_factorial(upper)) / below)


def _real(value: Value) -> float:
    z = complex(value)
    if abs(z.imag) > TOLERANCE * (1 + abs(z.real)):
        raise Unreadable("not real")
    return z.real


def _whole(rounding: Callable[[Fraction | float], int]) -> Callable[[Value], Value]:
    return lambda value: Fraction(rounding(value if isinstance(value, Fraction) else _real(value)))


def _log(value: Value, base: Value = Fraction(10)) -> Value:
    """Base ten when none is written."""
    result = cmath.log(_complex(value)) / cmath.log(_complex(base))
    if isinstance(value, Fraction) and isinstance(base, Fraction):
        n = round(result.real)
        if abs(n) < 1000 and _power(base, Fraction(n)) == value:
            return Fraction(n)
    return result


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "inv": lambda a: 1 / a,
    "frac": lambda a, b: a / b,
    "pow": _power,
    "root": _root,
    "fact": _factorial,
    "fact2": _double_factorial,
    "binom": _binomial,
    "abs": abs,
    "floor": _whole(math.floor),
    "ceil": _whole(math.ceil),
    "log": _log,
}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan,
    "cot": lambda z: 1 / cmath.tan(z), "sec": lambda z: 1 / cmath.cos(z),
    "csc": lambda z: 1 / cmath.sin(z),
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan,
    "arccot": lambda z: cmath.atan(1 / z),
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "ln": cmath.log, "exp": cmath.exp,
}  # fmt: skip
