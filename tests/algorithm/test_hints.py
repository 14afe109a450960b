"""Hints: what gives the answer away, and what is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from zppo.algorithm.checked import RETRY_TEMPERATURE, Refusal
from zppo.algorithm.hints import shows_answer, write_hints
from zppo.algorithm.prompts import Templates
from zppo.config import AlgorithmConfig
from zppo.teacher.base import TeacherRequest
from zppo.types import Question

SUM = Question("q", "Ann has 12 pens and buys 30 more. How many has she?", "42")


class Student:
    """One token a character."""

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


class Teacher:
    """Gives the replies of its list, one a request."""

    def __init__(self, *replies: str | None) -> None:
        self.replies = list(replies)
        self.requests: list[TeacherRequest] = []
        self.seeds: list[Sequence[int]] = []

    async def complete(self, requests, seed):
        self.requests += requests
        self.seeds.append(seed)
        return [self.replies.pop(0) for _ in requests]


def written(teacher: Teacher, attempts: int = 3, cap: int = 100) -> str | Refusal:
    config = AlgorithmConfig(candidate_max_tokens=cap, compress_attempts=attempts)
    traces = {"q": (SUM, "12 + 30 = \\boxed{42}")}
    hints = write_hints(traces, config, Student(), teacher, Templates.default(), (0, 1))  # pyright: ignore
    return asyncio.run(hints)["q"]


@pytest.mark.parametrize(
    ("answer", "hint", "shown"),
    [
        ("42", "Add the two numbers.", False),
        ("42", "The sum is 42.", True),
        ("42", "You get 42.0 pens.", True),
        ("42", "Forty is near; 420 and 142 and 4.2 and 42.5 are not.", False),
        ("1234", "About 1,234 of them.", True),
        ("-5", "It is below zero: -5.", True),
        ("5", "Look at x - 5.", True),
        ("12", "Start with 12, then add 30.", False),
        ("12", "12 is given, so the answer is 12.", True),
        ("30", "Subtract until you reach it: 42 - 12 = 30", True),
        ("Paris", "Think of the Seine.", False),
        ("Paris", "It is paris, of course.", True),
        ("Paris", "The city of the Parisians.", False),
        ("\\frac{1}{2}", "Halve it: $\\frac{1}{2}$.", True),
        ("B", "A triangle has three sides, be careful.", False),
        ("B", "Rule out the others; (B) stays.", True),
        ("B", "The answer is B.", True),
        ("", "Anything.", False),
    ],
)
def test_what_gives_the_answer_away(answer, hint, shown):
    question = Question("q", SUM.text, answer)
    assert shows_answer(hint, question) is shown


def test_the_text_of_an_option_may_be_named_but_not_as_the_answer():
    question = Question("q", "Which?", "red", options=("red", "blue"))
    assert not shows_answer("Compare red with blue.", question)
    assert shows_answer("So the answer is red.", question)


def test_a_hint_that_breaks_the_rule_is_asked_for_again_sampled():
    teacher = Teacher("<hint>It is 42.</hint>", "<hint>\\boxed{x}</hint>", "<hint>Add them.</hint>")
    assert written(teacher) == "Add them."
    assert [r.temperature for r in teacher.requests] == [0.0, RETRY_TEMPERATURE, RETRY_TEMPERATURE]
    assert teacher.seeds == [(0, 1), (0, 1, 1), (0, 1, 2)]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("<hint>It is 42.</hint>", Refusal.SHOWS_ANSWER),
        ("<hint>It is \\boxed{41}.</hint>", Refusal.SHOWS_ANSWER),
        ("Add them.", Refusal.NO_HINT),
        (f"<hint>{'Add. ' * 50}</hint>", Refusal.TOO_LONG),
    ],
)
def test_one_that_stays_bad_is_refused_with_the_reason(reply, reason):
    teacher = Teacher(reply, reply)
    assert written(teacher, attempts=2) is reason
    assert len(teacher.requests) == 2


def test_a_failed_call_is_not_repeated_here():
    teacher = Teacher(None)
    assert written(teacher) is Refusal.NO_REPLY and len(teacher.requests) == 1
