r"""Quantities: a number, and perhaps a unit, a currency or what is counted.

A unit on one side only is passed over (the question named it) when it is a known one or reads as
something counted: `5 apples` is 5, `5 wrong` is not. Units on both sides have to agree: after
conversion when both are known (3 hours are 180 minutes, never 3 minutes), as words otherwise. A
length such as `5 ft 3 in` is one quantity, and no bare number states it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from zppo.rewards.literals import FUNCTIONS

# dimension: {unit: factor to the first one}; plurals and full stops are folded before the look-up
_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "m": "1", "meter": "1", "metre": "1", "km": "1000", "kilometer": "1000",
        "kilometre": "1000", "cm": "1/100", "centimeter": "1/100", "centimetre": "1/100",
        "mm": "1/1000", "millimeter": "1/1000", "millimetre": "1/1000", "dm": "1/10",
        "nm": "1/1000000000", "inch": "0.0254", "inche": "0.0254", "in": "0.0254",
        "foot": "0.3048", "feet": "0.3048", "ft": "0.3048", "yard": "0.9144", "yd": "0.9144",
        "mile": "1609.344", "mi": "1609.344",
    },
    "time": {
        "s": "1", "sec": "1", "second": "1", "ms": "1/1000", "millisecond": "1/1000",
        "min": "60", "minute": "60", "h": "3600", "hr": "3600", "hour": "3600", "day": "86400",
        "week": "604800",
    },
    "month": {"month": "1", "year": "12", "yr": "12", "decade": "120", "century": "1200"},
    "mass": {
        "g": "1", "gram": "1", "kg": "1000", "kilogram": "1000", "mg": "1/1000",
        "milligram": "1/1000", "tonne": "1000000",
    },
    "weight": {"lb": "16", "pound": "16", "oz": "1", "ounce": "1", "ton": "32000"},
    "volume": {
        "l": "1", "liter": "1", "litre": "1", "ml": "1/1000", "milliliter": "1/1000",
        "millilitre": "1/1000",
    },
    "us volume": {"gallon": "16", "gal": "16", "quart": "4", "pint": "2", "cup": "1"},
    "money": {"\\$": "1", "dollar": "1", "usd": "1", "buck": "1", "cent": "1/100", "¢": "1/100"},
    "euro": {"€": "1", "euro": "1", "eur": "1"},
    "sterling": {"£": "1", "gbp": "1"},
    "rupee": {"₹": "1", "rs": "1", "rupee": "1", "inr": "1"},
    "yen": {"¥": "1", "yen": "1", "yuan": "1"},
    "force": {"n": "1", "newton": "1", "kn": "1000"},
    "energy": {"j": "1", "joule": "1", "kj": "1000", "kilojoule": "1000"},
    "power": {"w": "1", "watt": "1", "kw": "1000", "kilowatt": "1000"},
    "voltage": {"v": "1", "volt": "1"},
    "current": {"a": "1", "amp": "1", "ampere": "1", "ma": "1/1000"},
    "resistance": {"\\omega": "1", "ohm": "1"},
    "frequency": {"hz": "1", "hertz": "1", "khz": "1000", "mhz": "1000000"},
    "kelvin": {"k": "1", "kelvin": "1"},
    "celsius": {"degc": "1"},
    "fahrenheit": {"degf": "1"},
    "amount": {"mol": "1", "mole": "1"},
    "angle": {"rad": "1", "radian": "1"},
    "pressure": {"pa": "1", "pascal": "1", "kpa": "1000", "atm": "101325"},
    "area": {"acre": "1", "hectare": "2.4710538"},
    "electronvolt": {"ev": "1", "electronvolt": "1"},
    "charge": {"coulomb": "1"}, "capacitance": {"farad": "1"}, "field": {"tesla": "1"},
}  # fmt: skip
_KNOWN: dict[str, tuple[str, Fraction]] = {
    unit: (dimension, Fraction(factor))
    for dimension, table in _TABLE.items()
    for unit, factor in table.items()
}
_PREFIXES = (
    ("k", "kilo", Fraction(1000)), ("M", "mega", Fraction(10**6)), ("G", "giga", Fraction(10**9)),
    ("T", "tera", Fraction(10**12)), ("m", "milli", Fraction(1, 1000)),
    ("µ", "micro", Fraction(1, 10**6)), ("n", "nano", Fraction(1, 10**9)),
    ("p", "pico", Fraction(1, 10**12)),
)  # fmt: skip
# symbol, dimension, name; what of them stands alone is in the table above
_PREFIXED = (
    ("m", "length", "meter"), ("s", "time", "second"), ("g", "mass", "gram"),
    ("L", "volume", "liter"), ("l", "volume", "litre"), ("A", "current", "ampere"),
    ("A", "current", "amp"), ("V", "voltage", "volt"), ("W", "power", "watt"),
    ("J", "energy", "joule"), ("N", "force", "newton"), ("Pa", "pressure", "pascal"),
    ("Hz", "frequency", "hertz"), ("ohm", "resistance", "ohm"), ("mol", "amount", "mole"),
    ("F", "capacitance", "farad"), ("C", "charge", "coulomb"), ("T", "field", "tesla"),
    ("eV", "electronvolt", "electronvolt"), ("m", "length", "metre"),
)  # fmt: skip
#: Case counts in these: mW is not MW. (`pm` is an hour of the day.)
_SYMBOLS = {
    prefix + symbol: (dimension, factor)
    for prefix, _, factor in _PREFIXES
    for symbol, dimension, _ in _PREFIXED
    if prefix + symbol != "pm"
}
_KNOWN |= {
    prefix + name: (dimension, factor)
    for _, prefix, factor in _PREFIXES
    for symbol, dimension, name in _PREFIXED
}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES |= {"trillion": 10**12}
_SPEEDS = {"mph": "mile/hour", "kmh": "km/hour", "kph": "km/hour", "kmph": "km/hour"}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
# Words that make more than a quantity of what precedes them.
_STOP = frozenset(
    [
        *("or", "and", "not", "no", "nor", "than", "to", "between", "if", "when", "where", "for"),
        *("is", "are", "but", "except", "plus", "minus", "mod", "modulo", "over"),
        *("divided", "only"),
        # hedges and verdicts, which make a remark of what looks like a count
        *("wrong", "incorrect", "false", "true", "correct", "invalid", "maybe", "perhaps", "less"),
        *("unless", "always", "sometimes", "guess", "yes", "was", "has", "does", "this", "that"),
        *("never", "neither", "none", "nothing", "without", "about", "around", "almost", "nearly"),
        *("negative", "negatives", "below", "above", "under", "fewer", "more", "unknown", "zero"),
        # words that change the number
        *("half", "halves", "third", "thirds", "fourth", "fourths", "quarter", "quarters", "fifth"),
        *("fifths", "sixth", "sixths", "seventh", "sevenths", "eighth", "eighths", "ninth"),
        *("ninths", "tenth", "tenths", "hundredth", "hundredths", "thousandth", "thousandths"),
        *("ones", "tens", "factorial", "doubled", "tripled", "halved", "root", "percent"),
    ]
)
# What is counted without an s, and what may follow the noun.
_COUNTED = frozenset(
    [
        *("people", "children", "men", "women", "teeth", "mice", "geese", "fish", "sheep", "deer"),
        *("dice", "cattle", "unit", "won", "baht", "pence", "quid", "calorie", "kcal", "cal"),
        *("times", "rpm", "ppm", "fps", "bps", "knot", "byte", "bit"),
    ]
)
_TRAILING = frozenset(("left", "remaining", "total", "altogether", "each", "long", "high", "tall"))
_LETTER_UNITS = frozenset("msghlLAVWNJKΩ")

_WORD = r"(?:\\Omega|[A-Za-zµ]+\.?)(?: ?\^ ?\{?-?\d\}?)?"
_TAIL = re.compile(rf"{_WORD}(?:(?: ?/ ?| ?\\cdot ?| ?\* ?| |-){_WORD}){{0,5}}")
_TAIL_START = re.compile(r"(?<=[\d)}\] !|])(?<!\\)(?:\\(?=Omega)|[A-Za-zµ])")
_CURRENCY = re.compile(r"^(-?) ?(\\\$|[€£¥₹]|Rs\.?|USD|US\\\$) ?(-?)(?=[\d.\\(])")
_CURRENCY_AFTER = re.compile(r"(?<=[\d)}]) ?(\\\$|[€£¥₹¢])$")
_FRACTION = re.compile(
    r"(?<=[\d)} ])\\frac ?\{ ?([A-Za-z]+) ?\} ?\{ ?([A-Za-z]+)((?: ?\^ ?\{?\d\}?)?) ?\}$"
)
_PART = re.compile(r"( ?/ ?| per )|(\\?[A-Za-zµ$€£¥₹¢]+)\.?(?: ?\^ ?\{?(-?\d)\}?)?")
_COMPOUND_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([A-Za-z]+)\.?")
_COMPOUND = re.compile(
    rf"{_COMPOUND_PART.pattern}(?:(?: and |, and |, | ){_COMPOUND_PART.pattern}){{1,3}}"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """`number` is an expression. `unit` maps dimensions to exponents with a `factor`, or is None
    when a word of it is unknown; `words` are the words of the unit, none when there was no unit.
    `alone` says that the number by itself states the quantity."""

    number: str
    words: frozenset[str] = frozenset()
    unit: tuple[tuple[str, int], ...] | None = None
    factor: Fraction = Fraction(1)
    alone: bool = True


@lru_cache(maxsize=8192)
def quantity(text: str, tight: bool = False) -> Quantity:
    """A cleaned `text` as number and unit. What has no unit is all number.

    One letter set right against a number is a variable (5m), and only a unit when `tight`.
    """
    text = _FRACTION.sub(_in_line, text)
    if (sum_of_parts := compound(text)) is not None:
        return sum_of_parts
    if money := _CURRENCY.match(text):
        number, words = _scaled(money[1] + money[3] + text[money.end() :])
        return _with_unit(number, f"{money[2]} {words}".strip())
    if money := _CURRENCY_AFTER.search(text):
        return _with_unit(text[: money.start()], money[1])
    return _with_unit(*_scaled(text, tight))


def compound(text: str) -> Quantity | None:
    """`5 ft 3 in`, `2 hours and 30 minutes`: known units of one dimension, larger ones first."""
    if _COMPOUND.fullmatch(text) is None:
        return None
    parts = [(m[1], _look_up(m[2])) for m in _COMPOUND_PART.finditer(text)]
    units = [unit for _, unit in parts if unit is not None]
    factors = [factor for _, factor in units]
    if len(units) < len(parts) or len({dimension for dimension, _ in units}) > 1:
        return None
    if any(small >= large for large, small in pairwise(factors)):
        return None
    total = sum((Fraction(n) * f for (n, _), f in zip(parts, factors, strict=True)), Fraction(0))
    number = f"\\frac{{{total.numerator}}}{{{total.denominator}}}"
    words = frozenset(m[2].casefold() for m in _COMPOUND_PART.finditer(text))
    return Quantity(number, words, ((units[0][0], 1),), alone=False)


def same_unit(a: Quantity, b: Quantity) -> Fraction | None:
    """What to multiply the number of `a` with to count in units of `b`; None when they clash."""
    if not a.words or not b.words:  # as the question named it
        return Fraction(1) if a.alone and b.alone else None
    if a.unit is not None and b.unit is not None:
        return a.factor / b.factor if a.unit == b.unit else None
    if (a.words ^ b.words) & _SCALES.keys():  # 7 cm dozen is not 7 cm
        return None
    return Fraction(1) if a.words <= b.words or b.words <= a.words else None


def _scaled(text: str, tight: bool = False) -> tuple[str, str]:
    """(number, unit words), with a scale word (5 million) multiplied into the number."""
    number, words = _cut(text, tight)
    first, _, rest = words.partition(" ")
    scale = _SCALES.get(first.casefold().removesuffix("s"))
    if scale is None:
        return number, words
    return f"({number})\\cdot {scale}", rest.removeprefix("of ")


def _cut(text: str, tight: bool) -> tuple[str, str]:
    start = max(len(text) - 60, 0)
    for match in _TAIL_START.finditer(text, start):
        tail = text[match.start() :]
        loose = tight or text[match.start() - 1] == " "
        if re.fullmatch("[A-Z] ?", text[: match.start()]):  # B A names options, no ampere
            continue
        if match.start() and _TAIL.fullmatch(tail) and _is_unit(tail, loose):
            return text[: match.start()].strip(), tail
    return text, ""


def _is_unit(tail: str, loose: bool) -> bool:
    """Known units, or words long enough not to be variables."""
    words = re.findall(r"\\?[A-Za-zµ]+", tail)
    if words[0].casefold() in ("squared", "cubed") or _POWERS.keys() >= set(
        map(str.casefold, words)
    ):
        return False  # what is squared is the number
    if "times" in words and len(words) > 1:
        return False  # 3 times seven
    return (loose or len(words[0]) > 1) and all(map(_may_be_unit, words))


def _in_line(match: re.Match[str]) -> str:
    """9.8 \\frac{m}{s^2} as 9.8 m/s^2."""
    known = all(_may_be_unit(match[group]) for group in (1, 2))
    return f" {match[1]}/{match[2]}{match[3]}" if known else match[0]


def _may_be_unit(word: str) -> bool:
    if len(word) == 1:
        return word in _LETTER_UNITS
    folded = word.casefold()
    if folded in _STOP or folded in FUNCTIONS:
        return False
    return len(word) > 2 or folded == "of" or folded in _POWERS or _look_up(word) is not None


def _look_up(word: str) -> tuple[str, Fraction] | None:
    folded = word.casefold()
    return _SYMBOLS.get(word) or _KNOWN.get(folded) or _KNOWN.get(folded.removesuffix("s"))


def _with_unit(number: str, tail: str) -> Quantity:
    words, dimensions, factor, known = set(), {}, Fraction(1), True
    sign, pending = 1, 1
    tail = _SPEEDS.get(tail.casefold(), tail)
    for match in _PART.finditer(tail):
        if match[1]:
            sign = -1
            continue
        word = match[2].casefold()
        if word in _POWERS:
            pending = _POWERS[word]
            if word.endswith("ed") and words:  # metres squared
                known = False
            continue
        words.add(word.removesuffix("s"))
        entry = _look_up(match[2])
        exponent = int(match[3] or pending) * sign
        pending = 1
        if entry is None:
            known = False
        else:
            dimensions[entry[0]] = dimensions.get(entry[0], 0) + exponent
            factor *= entry[1] ** exponent
    unit = tuple(sorted(dimensions.items())) if known and words else None
    number = number.strip()
    alone = not words or unit is not None or _is_count(tail.casefold(), number)
    return Quantity(number, frozenset(words), unit, factor, alone)


def _is_count(tail: str, number: str) -> bool:
    """Whether the words after `number` name what it counts: a plural, or one thing at most one of.

    Only the noun is looked at: the last word before `per`, `of` or a slash.
    """
    words = re.findall(r"[a-zµ]+", re.split(r" ?/ ?|\bper\b|\bof\b", tail)[0])
    while len(words) > 1 and words[-1] in _TRAILING:
        words.pop()
    if not words:
        return False
    noun = words[-1]
    plural = noun.endswith("s") and not noun.endswith("ss") and len(noun) > 3
    known = noun in _COUNTED or _look_up(noun) is not None
    single = len(words) == 1 and number in ("1", "-1", "0.5", "\\frac{1}{2}", "1/2")
    return plural or known or single
