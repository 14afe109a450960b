"""From a response to a reward: one grader serves the student, the teacher and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from zppo.rewards import paper
from zppo.rewards.answer import equivalent
from zppo.rewards.boxed import extract_boxed
from zppo.types import Question, QuestionKind, Response, RolloutStatus

_log = logging.getLogger(__name__)

#: `robust` is our rule (`answer.py`), `paper` the strict one of the paper (`paper.py`).
GradingMode = Literal["robust", "paper"]


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one response. `extracted` is the answer it was given for, None without one."""

    correct: bool
    status: RolloutStatus
    extracted: str | None = None


def grade(
    response: str,
    gold: str,
    kind: QuestionKind = "short",
    options: Sequence[str] | None = None,
    mode: GradingMode = "robust",
) -> Grade:
    """Grade the text of a response by rule (method section 7).

    The last balanced box counts wherever it stands, inside the reasoning or in a response that
    was cut: the answer was stated. `options` are the choices of a multiple-choice question, in
    the order of their letters. A `free` question is graded by the same rule here; where a judge
    is configured, the judge replaces this verdict. `mode="paper"` is the strict rule of the paper.
    """
    del kind  # the rule is the same; the judge is another Grader
    extracted = extract_boxed(response)
    if extracted is None:
        return Grade(False, RolloutStatus.NO_ANSWER)
    correct = is_right(extracted, gold, tuple(options) if options else None, mode)
    return Grade(correct, RolloutStatus.GRADED, extracted)


def is_right(
    extracted: str, gold: str, options: tuple[str, ...] | None, mode: GradingMode = "robust"
) -> bool:
    """The rule on the content of a box."""
    if mode == "paper":
        return paper.equivalent(extracted, gold)
    return equivalent(extracted, gold, options)


class Grader(Protocol):
    """Grades a batch. A verdict that could not be reached is a status, never an error."""

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        """One `Grade` an item, in order."""
        ...


class RuleGrader:
    """The rule of `grade` for every question, in this process."""

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        return [_grade_one(question, response) for question, response in items]


def _grade_one(question: Question, response: Response) -> Grade:
    try:
        verdict = grade(response.text, question.answer, question.kind, question.options)
    except Exception:  # a response must never end a run; the status is counted and shown
        _log.exception("grading failed for question %s", question.id)
        return Grade(False, RolloutStatus.GRADER_ERROR)
    if verdict.status is RolloutStatus.NO_ANSWER and not response.finished:
        return Grade(False, RolloutStatus.TRUNCATED)
    return verdict
