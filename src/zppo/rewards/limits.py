"""Bounds on what a boxed answer may ask of the grader. Beyond them an answer is only compared as
a string, so that no response can make grading slow: the box is written by a model under pressure
to find out what the reward does with it."""

from __future__ import annotations

MAX_CHARS = 2_000  # of a box; a longer one has to be the gold answer letter by letter
MAX_DIGITS = 1_000  # of one written number
MAX_BITS = 8_192  # of the numerator and denominator of any exact value together
MAX_DEPTH = 40  # of nested brackets, powers and functions
MAX_FACTORIAL = 900  # its argument; 900! is about the largest that MAX_BITS holds
MAX_ITEMS = 32  # of a list, a set, a union or a matrix row
MAX_NESTING = 4  # of lists in lists


class Unreadable(ValueError):
    """Not an expression, or one beyond the limits."""
