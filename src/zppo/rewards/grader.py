"""From a response to a reward: one grader serves the student, the teacher and evaluation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from zppo.rewards import paper
from zppo.rewards.answer import equivalent, plainly_equal
from zppo.rewards.boxed import extract_boxed
from zppo.rewards.workers import Outcome, WorkerPool
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


@runtime_checkable
class ReportsMetrics(Protocol):
    """A grader that counts what it does; looked for, not needed."""

    def drain_metrics(self) -> dict[str, float]:
        """What happened since the last call, by `section/name`."""
        ...


def drain_metrics(grader: Grader) -> dict[str, float]:
    """The grader's own counts since the last call, if it keeps any."""
    return grader.drain_metrics() if isinstance(grader, ReportsMetrics) else {}


@runtime_checkable
class Remembers(Protocol):
    """A grader that does not ask twice what it has asked before; looked for, not needed."""

    def drain_verdicts(self) -> dict[str, str]:
        """What it has learnt since the last call, oldest first, as JSON can hold it."""
        ...

    def recall(self, verdicts: Mapping[str, str]) -> None:
        """Know again what `drain_verdicts` gave, in the same order."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A grader that holds processes or connections; looked for, not needed."""

    async def aclose(self) -> None:
        """Let go of them, within the event loop that used them. The grader stays usable."""
        ...


async def close_grader(grader: Grader) -> None:
    """Close what it holds, if it holds anything."""
    if isinstance(grader, Closes):
        await grader.aclose()


class RuleGrader:
    """The rule of `grade` for every question.

    With a `pool`, answers that have to be read are read in its processes. One text or plain numbers
    are compared here either way, so a run with such answers never starts a process.
    """

    def __init__(self, mode: GradingMode = "robust", pool: WorkerPool | None = None) -> None:
        self.mode: GradingMode = mode
        self.pool = pool

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        grades = [self._first(question, response) for question, response in items]
        unread = [(i, box) for i, box in enumerate(grades) if isinstance(box, str)]
        if self.pool is not None and unread:
            asked = [(box, items[i][0].answer, items[i][0].options, self.mode) for i, box in unread]
            outcomes = await self.pool.grade_async(asked)
            for (i, box), outcome in zip(unread, outcomes, strict=True):
                grades[i] = Grade(outcome is Outcome.RIGHT, _STATUS[outcome], box)
        return [verdict for verdict in grades if isinstance(verdict, Grade)]

    async def aclose(self) -> None:
        """End the processes; a later call starts new ones."""
        if self.pool is not None:
            await asyncio.to_thread(self.pool.close)

    def _first(self, question: Question, response: Response) -> Grade | str:
        """The verdict of this process, or the content of the box for another one to read."""
        try:
            if self.pool is not None:
                return self._at_sight(question, response)
            text, gold = response.text, question.answer
            verdict = grade(text, gold, question.kind, question.options, self.mode)
        except Exception:  # a response must never end a run; the status is counted and shown
            _log.exception("grading failed for question %s", question.id)
            return Grade(False, RolloutStatus.GRADER_ERROR)
        return _truncated(response) if verdict.extracted is None else verdict

    def _at_sight(self, question: Question, response: Response) -> Grade | str:
        extracted = extract_boxed(response.text)
        if extracted is None:
            return _truncated(response)
        options = question.options if self.mode == "robust" else None
        correct = plainly_equal(extracted, question.answer, options)
        return extracted if correct is None else Grade(correct, RolloutStatus.GRADED, extracted)


_STATUS = {
    Outcome.RIGHT: RolloutStatus.GRADED,
    Outcome.WRONG: RolloutStatus.GRADED,
    Outcome.TIMEOUT: RolloutStatus.GRADER_TIMEOUT,
    Outcome.ERROR: RolloutStatus.GRADER_ERROR,
}


def _truncated(response: Response) -> Grade:
    """Without an answer: cut by the token limit, or finished and not given."""
    status = RolloutStatus.NO_ANSWER if response.finished else RolloutStatus.TRUNCATED
    return Grade(False, status)
