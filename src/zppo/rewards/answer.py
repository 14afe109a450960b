r"""Whether a boxed answer says the same as the gold answer (the rule of method section 7).

Both are brought to one spelling (`normalize`), then compared from the plainest reading to the
richest: as strings, as options, as words, as equations, as lists and intervals, as quantities, as
expressions. An answer is accepted when one reading makes the two equal, and never because a
reading failed. If all fail, degree and percent marks are dropped on both sides and the comparison
runs once more, so 60 is accepted for 60° and 50 for 50%.

Conventions where graders differ: a fraction need not be reduced, but a ratio is taken as written
(2:4 is not 1:2); a decimal has to be exact (0.33 is not 1/3); (1,2) is not the list 1,2; y=2x+1 and
2x+1 agree, x=5 and y=5 do not; `\log` is to base ten; a comma parts thousands, never decimals;
50\% is one half; a number with a base (52_8) equals only itself; 5m is a product, 5 m a length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from zppo.rewards import choices
from zppo.rewards.evaluate import same_value
from zppo.rewards.formulas import same_formula
from zppo.rewards.intervals import is_ordered, same_union
from zppo.rewards.limits import MAX_CHARS, MAX_NESTING
from zppo.rewards.lists import same_coordinates, same_lists, same_tuples
from zppo.rewards.normalize import clean, compact, strip_marks
from zppo.rewards.numerals import number_in_words
from zppo.rewards.relations import about, same_equation, sides
from zppo.rewards.units import compound, quantity, same_unit
from zppo.rewards.words import is_prose, is_words, same_words

_MIXED = re.compile(r"(\d{1,9}) and (?:\\frac ?\{)?(\d{1,9})(?: ?/ ?|\} ?\{)(\d{1,9})\}?")
_RESTATED = re.compile(r"([^()]{0,60}[^() ]) \(([^()]{1,60})\)")
_PLAIN = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def equivalent(answer: str, gold: str, options: tuple[str, ...] | None = None) -> bool:
    """Whether `answer`, the content of a box, states the gold answer. Never raises, and takes
    time bounded by the limits of this package whatever `answer` holds."""
    at_sight = plainly_equal(answer, gold, options)
    if at_sight is not None:
        return at_sight
    left, right = clean(answer), clean(gold)
    if not left or not right:
        return False
    if options:
        verdict = choices.same_option(left, right, tuple(map(clean, options)), _same)
        if verdict is not None:
            return verdict
    if _same(left, right) or _same_letter(left, right) or choices.same_letters(left, right):
        return True
    return _same_without_marks(left, right)


def plainly_equal(answer: str, gold: str, options: tuple[str, ...] | None = None) -> bool | None:
    """The verdict where it takes no reading: one text, plain numbers, a box beyond the limits.

    None where the answer has to be read. Both rules agree on these.
    """
    if answer.strip() == gold.strip():
        return answer.strip() != ""
    if not options and _PLAIN.fullmatch(answer) and _PLAIN.fullmatch(gold):
        return Fraction(answer) == Fraction(gold)
    return False if len(answer) > MAX_CHARS or len(gold) > MAX_CHARS else None


def _same_without_marks(answer: str, gold: str) -> bool:
    """The second pass. A mark stands where a unit would, so it does not go with one."""
    bare = strip_marks(answer), strip_marks(gold)
    if bare == (answer, gold) or not all(bare) or any(quantity(text).words for text in bare):
        return False
    return _same(*bare)


def _same_letter(answer: str, gold: str) -> bool:
    """A gold answer that is one letter names an option, and so may the answer: `(C) 5`, `C.`"""
    wanted = choices.letter_of_gold(gold)
    named = choices.letter_of_answer(answer) if wanted else None
    return named is not None and named[0] == wanted


def _same(a: str, b: str) -> bool:
    return _compare(a, b, 0)


def _compare(a: str, b: str, depth: int) -> bool:
    """Two cleaned texts. The parts of an answer come back here, one level deeper."""
    if compact(a) == compact(b) != "":
        return True
    if depth > MAX_NESTING:
        return False
    if same_formula(a, b) or (_are_words(a, b) and same_words(a, b)):
        return True
    a, b = number_in_words(a), number_in_words(b)

    def same(x: str, y: str) -> bool:
        return _compare(x, y, depth + 1)

    ours, theirs = list(_readings(a, same)), list(_readings(b, same))
    return any(_same_reading(x, y, same) for x in ours for y in theirs)


def _readings(text: str, same: choices.Same) -> Iterator[str]:
    """What `text` may be shorthand for: an approximation, `2 and 3/4`, `20 (twenty)`."""
    yield from about(text)
    if mixed := _MIXED.fullmatch(text):
        yield f"{mixed[1]}\\frac{{{mixed[2]}}}{{{mixed[3]}}}"
    restated = _RESTATED.fullmatch(text)
    if restated is not None and same(restated[1], restated[2]):
        yield restated[1]


def _are_words(a: str, b: str) -> bool:
    """Whether two texts are compared as words. Units are not: 5 mW is not 5 MW."""
    if is_words(a) or is_words(b):
        return True
    return is_prose(a) and is_prose(b) and not (quantity(a).unit and quantity(b).unit)


def _same_reading(a: str, b: str, same: choices.Same) -> bool:
    """As sets of reals, as lists, equations, tuples or quantities: whatever they are."""
    if (is_ordered(a) or is_ordered(b)) and same_union(a, b, same):
        return True
    if (compound(a) or compound(b)) and _same_quantity(a, b):
        return True
    as_point = same_coordinates(a, b, same)
    if as_point is not None:
        return as_point
    as_lists = same_lists(a, b, same)
    if as_lists is not None:
        return as_lists
    ours, theirs = sides(a), sides(b)
    if len(ours) > 1 or len(theirs) > 1:
        return same_equation(ours, theirs, same)
    as_tuples = same_tuples(a, b, same)
    if as_tuples is not None:
        return as_tuples
    return not (is_words(a) and is_words(b)) and _same_quantity(a, b)


def _same_quantity(a: str, b: str) -> bool:
    ours, theirs = quantity(a), quantity(b)
    if bool(ours.words) != bool(theirs.words):  # 3h beside 3 hours is no variable
        ours, theirs = quantity(a, tight=True), quantity(b, tight=True)
    factor = same_unit(ours, theirs)
    if factor is None:
        return False
    if factor == 1:
        return same_value(ours.number, theirs.number)
    scale = f"\\frac{{{factor.numerator}}}{{{factor.denominator}}}"
    return same_value(f"({ours.number})\\cdot {scale}", theirs.number)
