r"""Multiple choice: which option an answer names, by its letter, by its text or by both."""

from __future__ import annotations

import re
from collections.abc import Callable

_LABEL = re.compile(
    r"(?:(?:option|choice|answer|case) ?:? ?)?"
    r"(?:\( ?([A-Za-z]) ?\)|\[ ?([A-Za-z]) ?\]|([A-Za-z]) ?[.):]|([A-Za-z])!?$"
    r"|([A-Za-z])(?= [-–] ))"  # noqa: RUF001
    r"(.*)",
    re.IGNORECASE | re.DOTALL,
)
_ANOTHER = re.compile(r"^(?:and|or|,|/|&)|\([A-Za-z]\)|^[A-Za-z]$")
_LETTER = re.compile(r"\(?([A-Ja-h])\)?")

_RUN = re.compile("[A-J]{2,10}")
_LISTED = re.compile(r"\(?([A-J])\)?(?:(?: ?, ?(?:and )?| and | ?& ?| )\(?[A-J]\)?){1,9}")

Same = Callable[[str, str], bool]


def letter_of_gold(gold: str) -> str | None:
    """The letter of a cleaned gold answer that is one: C or (C)."""
    match = _LETTER.fullmatch(gold)
    return match[1].upper() if match else None


def letter_of_answer(answer: str) -> tuple[str, str] | None:
    """The option letter a cleaned answer leads with, and the text that follows it.

    `C`, `(C)`, `C.`, `Option C`, `(C) 5`, `C: the circle`. An answer that names a second option
    names none.
    """
    match = _LABEL.fullmatch(answer)
    if match is None:
        return None
    letter = next(group for group in match.groups()[:5] if group).upper()
    rest = match[6].strip().lstrip("-–.: ")  # noqa: RUF001
    return None if _ANOTHER.search(rest) else (letter, rest)


def same_letters(answer: str, gold: str) -> bool:
    """Several options written as one word and as a list: ACD beside A, C and D.

    The word has its letters in order, so that names (BA, DAB) are none.
    """
    for word, listed in ((answer, gold), (gold, answer)):
        in_order = _RUN.fullmatch(word) is not None and list(word) == sorted(set(word))
        if in_order and _LISTED.fullmatch(listed):
            return sorted(re.findall("[A-J]", listed)) == list(word)
    return False


def same_option(answer: str, gold: str, options: tuple[str, ...], same: Same) -> bool | None:
    """Whether two cleaned answers name one option; None when either names none.

    The text of an option goes before its letter, as options may be letters themselves. A letter
    with the text of another option is a contradiction, and wrong.
    """
    options = _unlabelled(options)
    wanted, named = _index(gold, options, same), _index(answer, options, same)
    return None if wanted is None or named is None else wanted == named


def _unlabelled(options: tuple[str, ...]) -> tuple[str, ...]:
    """The texts of options that carry their letters: `(A) red`, `(B) blue`."""
    labels = [letter_of_answer(option) for option in options]
    letters = [label[0] if label and label[1] else "" for label in labels]
    if letters != [chr(ord("A") + index) for index in range(len(options))]:
        return options
    return tuple(label[1] for label in labels if label)


def _index(text: str, options: tuple[str, ...], same: Same) -> int | None:
    """The option's place, -1 for a contradiction."""
    for index, option in enumerate(options):
        if same(text, option):
            return index
    label = letter_of_answer(text)
    if label is None or not 0 <= (index := ord(label[0]) - ord("A")) < len(options):
        return None
    return index if not label[1] or same(label[1], options[index]) else -1
