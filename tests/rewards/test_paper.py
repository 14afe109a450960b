"""The strict rule of the paper, and where it differs from ours."""

from __future__ import annotations

import pytest

from tests.rewards.pairs import DIFFERENT, SAME
from zppo.rewards import grade
from zppo.rewards.answer import equivalent
from zppo.rewards.paper import equivalent as strictly


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"),
        ("1/2", r"\dfrac12"),
        ("0.5", "1/2"),
        ("60", r"60^\circ"),
        ("60°", "60"),
        ("50%", "50"),
        ("50", r"50\%"),
        ("1000", "1,000"),
        ("(1,2)", r"\left(1, 2\right)"),
        ("Yes", r"\text{yes}"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("x^2+2x+1", "(x+1)^2"),
        ("B", r"\text{B}"),
    ],
)
def test_what_the_method_names_is_right(gold: str, answer: str) -> None:
    assert strictly(answer, gold)
    assert grade(f"\\boxed{{{answer}}}", gold, mode="paper").correct


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", "5 cm"),
        ("3 hours", "180 minutes"),
        ("5", "five"),
        ("5", "x=5"),
        ("1, 2", "2, 1"),
        ("B", "Option B"),
        ("B", "(B) 5"),
        ("(2,\\infty)", "x>2"),
        ("yes", "Yes, it is red"),
        ("100", r"\$100"),
    ],
)
def test_what_only_our_rule_reads(gold: str, answer: str) -> None:
    assert equivalent(answer, gold)
    assert not strictly(answer, gold)


def test_options_are_not_read() -> None:
    assert grade(r"\boxed{B}", "blue", options=["red", "blue"]).correct
    assert not grade(r"\boxed{B}", "blue", options=["red", "blue"], mode="paper").correct


def test_the_second_pass_is_the_only_thing_it_accepts_beyond_ours() -> None:
    """Every pair the strict rule takes, ours takes too; every pair ours refuses, it refuses."""
    pairs = [pair for table in (SAME, DIFFERENT) for group in table.values() for pair in group]
    assert not [(g, a) for g, a in pairs if strictly(a, g) and not equivalent(a, g)]


def test_nothing_equals_nothing() -> None:
    assert not strictly("", "")
    assert not strictly("°", "%")
    assert not strictly("5" * 3000, "6" * 3000)
