r"""The paper's rule as method section 7 states it, and nothing beyond: the strict grader.

Equal as normalised LaTeX, equal in value (1/2 = 0.5 = \frac{1}{2}), or a tuple equal in each place;
where that fails, degree and percent marks are dropped on both sides and it is tried once more.
Units, options, lists in another order, equations (`x=5` for 5), numbers in words and inequalities
are not read; `zppo.rewards.answer` reads them. Same limits, and nothing is executed here either.
"""

from __future__ import annotations

from zppo.rewards.answer import plainly_equal
from zppo.rewards.evaluate import same_value
from zppo.rewards.lists import same_tuples
from zppo.rewards.normalize import clean, compact, strip_marks
from zppo.rewards.units import quantity
from zppo.rewards.words import is_words


def equivalent(answer: str, gold: str) -> bool:
    """Whether the content of a box equals the gold answer, strictly. Never raises."""
    at_sight = plainly_equal(answer, gold)
    if at_sight is not None:
        return at_sight
    left, right = clean(answer), clean(gold)
    return _same(left, right) or _same(strip_marks(left), strip_marks(right))


def _same(a: str, b: str) -> bool:
    if not a or not b:
        return False
    as_tuples = same_tuples(a, b, _same_item)
    return _same_item(a, b) if as_tuples is None else as_tuples


def _same_item(a: str, b: str) -> bool:
    if compact(a) == compact(b) != "":
        return True
    if is_words(a) or is_words(b):  # letters are no product here
        return a.casefold() == b.casefold()
    if quantity(a).words or quantity(b).words:  # nor is a unit
        return False
    return same_value(a, b)
