"""Equivalence of short answers, class by class."""

from __future__ import annotations

import pytest

from tests.rewards.pairs import DIFFERENT, SAME
from zppo.rewards.answer import equivalent


def flat(table: dict[str, list[tuple[str, str]]]) -> list[object]:
    return [
        pytest.param(gold, answer, id=f"{name}: {answer!r} for {gold!r}")
        for name, pairs in table.items()
        for gold, answer in pairs
    ]


@pytest.mark.parametrize(("gold", "answer"), flat(SAME))
def test_says_the_same(gold: str, answer: str) -> None:
    assert equivalent(answer, gold)


@pytest.mark.parametrize(("gold", "answer"), flat(DIFFERENT))
def test_says_something_else(gold: str, answer: str) -> None:
    assert not equivalent(answer, gold)


@pytest.mark.parametrize(("gold", "answer"), flat(SAME))
def test_the_gold_answer_is_its_own_equal(gold: str, answer: str) -> None:
    assert equivalent(gold, gold)
    assert equivalent(answer, answer)


@pytest.mark.parametrize(("gold", "answer"), flat(DIFFERENT))
def test_a_difference_is_one_both_ways(gold: str, answer: str) -> None:
    """Which side is gold matters to conventions only: a name may be left out of an answer."""
    if answer and "x+1=5" not in answer:
        assert not equivalent(gold, answer)


def test_nothing_equals_nothing() -> None:
    assert not equivalent("", "")
    assert not equivalent(" ", "5")
    assert not equivalent("°", "%")


OPTIONS = ("red", "blue", "5 cm", "7")


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("B", "blue", True),
        ("B", "B", True),
        ("B", "(B) blue", True),
        ("blue", "B", True),
        ("blue", "b", True),
        ("blue", "Option B", True),
        ("blue", "B. blue", True),
        ("blue", "the blue", True),
        ("C", "5", True),
        ("7", "D", True),
        ("B", "red", False),
        ("B", "A", False),
        ("blue", "A", False),
        ("B", "(B) red", False),
        ("B", "(A) blue", False),
        ("blue", "E", False),
        ("B", "A, B", False),
        ("7", "A", False),
        ("blue", "green", False),
    ],
)
def test_options_by_letter_and_by_text(gold: str, answer: str, right: bool) -> None:
    assert equivalent(answer, gold, OPTIONS) is right


def test_options_that_are_letters_or_carry_them() -> None:
    assert equivalent("A", "A", ("B", "A"))
    assert not equivalent("B", "A", ("B", "A"))
    labelled = ("(A) red", "(B) blue")
    assert equivalent("blue", "B", labelled)
    assert equivalent("B", "(B) blue", labelled)
    assert not equivalent("red", "B", labelled)


def test_a_long_answer_has_to_be_the_gold_answer_letter_by_letter() -> None:
    digits = "1" * 3000
    assert equivalent(digits, digits)
    assert not equivalent(digits, digits[:-1] + "2")
