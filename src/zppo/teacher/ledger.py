"""What a step asked of its teacher and what came of it, whatever the teacher is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from zppo.teacher.base import ReportsFailures, Teacher, TeacherRequest, turns_of
from zppo.types import Question, TeacherFailure


@dataclass
class Account:
    """Questions and text tasks asked, how many of them came back with nothing, and why.

    `failures` also holds samples that a question lacks although others of it came.
    """

    asked: int = 0
    unanswered: int = 0
    failures: list[TeacherFailure] = field(default_factory=list[TeacherFailure])

    @property
    def failed_share(self) -> float:
        """The share of calls that gave nothing at all."""
        return self.unanswered / self.asked if self.asked else 0.0

    def reasons(self) -> dict[str, int]:
        """Samples and tasks missing, by reason, the most frequent first."""
        counts: Counter[str] = Counter()
        for failure in self.failures:
            counts[failure.reason] += failure.count
        return dict(counts.most_common())

    def metrics(self) -> dict[str, float]:
        """`teacher/asked`, `teacher/failed_share` and `teacher/failed/<reason>`."""
        shares: dict[str, float] = {
            "teacher/asked": self.asked,
            "teacher/failed_share": self.failed_share,
        }
        return shares | {f"teacher/failed/{k}": v for k, v in self.reasons().items()}


class Ledger:
    """A teacher that keeps an account of one step; implements `Teacher` by the one it wraps.

    Reasons are the teacher's own where it reports them, and `no_reply` where it does not.
    """

    def __init__(self, teacher: Teacher, account: Account | None = None) -> None:
        self._teacher = teacher
        self._account = account or Account()
        turns = turns_of(teacher)
        self._turns = [Ledger(turn, self._account) for turn in turns if turn is not teacher]

    @property
    def turns(self) -> Sequence[Teacher]:
        """See `HasTurns`."""
        return self._turns or (self,)

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """See `Teacher.sample`."""
        answers = await self._teacher.sample(prompts, n, seed)
        self._account.asked += len(prompts)
        for (question, _), texts in zip(prompts, answers, strict=True):
            if not texts:
                self._note(TeacherFailure(question.id, "answer", "no_reply", n))
        return answers

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """See `Teacher.complete`."""
        replies = await self._teacher.complete(requests, seed)
        self._account.asked += len(requests)
        for request, reply in zip(requests, replies, strict=True):
            if reply is None:
                self._note(TeacherFailure(request.question.id, request.purpose, "no_reply"))
        return replies

    def close(self) -> Account:
        """The account so far. What the teacher has to report is taken from it."""
        told = [failure for part in (self, *self._turns) for failure in part._told()]
        explained = {(failure.question_id, failure.purpose) for failure in told}
        unexplained = [
            failure
            for failure in self._account.failures
            if (failure.question_id, failure.purpose) not in explained
        ]
        return Account(self._account.asked, self._account.unanswered, [*told, *unexplained])

    def _told(self) -> list[TeacherFailure]:
        return self._teacher.drain_failures() if isinstance(self._teacher, ReportsFailures) else []

    def _note(self, failure: TeacherFailure) -> None:
        self._account.unanswered += 1
        self._account.failures.append(failure)
