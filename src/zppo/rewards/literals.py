r"""Written numbers and the vocabulary of names: what the expression reader knows by heart."""

from __future__ import annotations

import re
from fractions import Fraction

from zppo.rewards.limits import MAX_DIGITS, Unreadable
from zppo.rewards.nodes import Node, Num, Sym


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh ln log exp sqrt abs"
    " floor ceil"
)
WORD_CONSTANTS = {"pi": "pi", "infty": "infty", "inf": "infty", "infinity": "infty"}
NAMES = _words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau"
    " upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar"
    " infty pi partial nabla aleph"
)
# With what they stand on, one name: \angle ABC, \bar{y}.
ACCENTS = _words("bar hat vec tilde dot ddot overline overrightarrow widehat angle triangle mathbb")
NOT_ATOMS = _words("pm mp times cdot rfloor rceil in cup cap le ge ne approx")

SUBSCRIPT = re.compile(r" ?_ ?(?:\{([^{}]*)\}|(\w))")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot) ?\{?(\d+)\}?")
_NUMBER = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?(?:[eE][+-]?\d+(?![\d.]))?"
    r"|\.\d+(?:[eE][+-]?\d+)?"
)


def read_number(text: str, at: int) -> tuple[Node, int]:
    """The number that starts at `at` and where it ends: 1,000.5, .5, 3e8, 0.1\\overline{6}, 52_8.

    A number with a base is a name: 52_8 is neither 52 nor 42, both of which answer another
    question.
    """
    if match := _REPEATING.match(text, at):
        return Num(_repeating(match[1], match[2], match[3])), match.end()
    match = _NUMBER.match(text, at)
    if match is None:
        raise Unreadable("no number")
    if base := SUBSCRIPT.match(text, match.end()):
        return Sym(f"{match[0]}_{(base[1] or base[2] or '').strip()}"), base.end()
    return Num(_decimal(match[0])), match.end()


def _decimal(literal: str) -> Fraction:
    digits, _, exponent = literal.replace(",", "").lower().partition("e")
    if len(digits) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise Unreadable("a number too long")
    return Fraction(digits.rstrip(".")) * Fraction(10) ** int(exponent or 0)


def _repeating(whole: str, fixed: str, cycle: str) -> Fraction:
    """The digits up to the cycle, and the cycle over as many nines."""
    if len(whole) + len(fixed) + len(cycle) > MAX_DIGITS:
        raise Unreadable("a number too long")
    scale = 10 ** len(fixed)
    base = Fraction(int((whole + fixed) or "0"), scale)
    return base + Fraction(int(cycle), (10 ** len(cycle) - 1) * scale)
