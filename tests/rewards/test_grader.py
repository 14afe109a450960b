"""Grades of responses, and the grader protocol."""

from __future__ import annotations

import asyncio
from unittest import mock

import numpy as np
import pytest

from zppo.rewards import Grade, Grader, RuleGrader, grade
from zppo.types import Question, Response, RolloutStatus


def response(text: str, finished: bool = True) -> Response:
    return Response(np.zeros(1, np.int64), None, text, finished)


def graded(*items: tuple[Question, Response]) -> list[Grade]:
    grader: Grader = RuleGrader()
    return asyncio.run(grader.grade(items))


def test_a_right_a_wrong_and_no_answer() -> None:
    assert grade(r"so \boxed{0.5}", r"\frac12") == Grade(True, RolloutStatus.GRADED, "0.5")
    assert grade(r"so \boxed{0.6}", r"\frac12") == Grade(False, RolloutStatus.GRADED, "0.6")
    assert grade("so 0.5", r"\frac12") == Grade(False, RolloutStatus.NO_ANSWER, None)
    assert grade("I do not know", "None") == Grade(False, RolloutStatus.NO_ANSWER, None)


def test_the_second_pass_drops_degree_and_percent_marks() -> None:
    assert grade(r"\boxed{60^\circ}", "60").correct
    assert grade(r"\boxed{60}", "60°").correct
    assert grade(r"\boxed{50}", r"50\%").correct
    assert not grade(r"\boxed{5}", r"50\%").correct


def test_free_questions_are_graded_by_the_rule_alone_here() -> None:
    assert grade(r"\boxed{a cat}", "A cat.", kind="free").correct
    assert not grade(r"\boxed{a dog}", "A cat.", kind="free").correct


def test_options_reach_the_rule() -> None:
    assert grade(r"\boxed{B}", "blue", options=["red", "blue"]).correct
    assert not grade(r"\boxed{A}", "blue", options=["red", "blue"]).correct


def test_a_cut_response_is_truncated_only_without_an_answer() -> None:
    question = Question("q", "?", "5")
    verdicts = graded(
        (question, response(r"\boxed{5}")),
        (question, response("hm", finished=True)),
        (question, response("hm", finished=False)),
        (question, response(r"\boxed{5} but wait", finished=False)),
        (question, response(r"\boxed{5", finished=False)),
    )
    assert [v.status for v in verdicts] == [
        RolloutStatus.GRADED,
        RolloutStatus.NO_ANSWER,
        RolloutStatus.TRUNCATED,
        RolloutStatus.GRADED,
        RolloutStatus.TRUNCATED,
    ]
    assert [v.correct for v in verdicts] == [True, False, False, True, False]


def test_a_failure_of_the_rule_is_a_status() -> None:
    question = Question("q", "?", "5")
    with mock.patch("zppo.rewards.grader.grade", side_effect=RuntimeError("broken")):
        assert graded((question, response("x"))) == [Grade(False, RolloutStatus.GRADER_ERROR)]


def test_grades_are_frozen() -> None:
    with pytest.raises(AttributeError):
        grade(r"\boxed{5}", "5").correct = False  # type: ignore[misc]
