"""More than one teacher, which widens the set of questions that get a BCQ. Beyond the paper."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zppo.teacher.base import (
    ChecksQuestions,
    ReportsFailures,
    Teacher,
    TeacherRequest,
    close_teacher,
)
from zppo.types import Question, TeacherFailure


class SeveralTeachers:
    """Implements `Teacher`, `HasTurns`, `ReportsFailures` and `Closes` by the teachers it holds.

    `in_order`: each answers the questions that those before it left unsolved. Whether one is
    solved is the grader's to say, so the step asks `turns` one after the other. Otherwise all
    answer every question, `n` times each.

    Text tasks go to the first of `for_tasks` (None: of all); what it does not give, to the next.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        in_order: bool = True,
        for_tasks: Sequence[Teacher] | None = None,
    ) -> None:
        if not teachers:
            raise ValueError("needs at least one teacher")
        self.teachers, self.in_order = tuple(teachers), in_order
        self.for_tasks = self.teachers if for_tasks is None else tuple(for_tasks)

    @property
    def turns(self) -> Sequence[Teacher]:
        """See `HasTurns`."""
        return self.teachers if self.in_order else (self,)

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """The answers of all of them, in their order."""
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(_sample(teacher, prompts, n, _seed(seed, i)))
                for i, teacher in enumerate(self.teachers)
            ]
        answers = [task.result() for task in asked]
        by_question = zip(*answers, strict=True)
        return [[text for texts in of_one for text in texts] for of_one in by_question]

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """See `Teacher.complete`."""
        replies: list[str | None] = [None] * len(requests)
        for i, teacher in enumerate(self.for_tasks):
            missing = [k for k, reply in enumerate(replies) if reply is None]
            if not missing:
                break
            found = await teacher.complete([requests[k] for k in missing], _seed(seed, i))
            for k, reply in zip(missing, found, strict=True):
                replies[k] = reply
        return replies

    def check_questions(self, questions: Sequence[Question]) -> None:
        """See `ChecksQuestions`: each may be asked every question."""
        for teacher in self.teachers:
            if isinstance(teacher, ChecksQuestions):
                teacher.check_questions(questions)

    def drain_failures(self) -> list[TeacherFailure]:
        """See `ReportsFailures`."""
        return [
            failure
            for teacher in self.teachers
            if isinstance(teacher, ReportsFailures)
            for failure in teacher.drain_failures()
        ]

    async def aclose(self) -> None:
        """See `Closes`."""
        for teacher in self.teachers:
            await close_teacher(teacher)


async def _sample(
    teacher: Teacher, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
) -> list[list[str]]:
    return await teacher.sample(prompts, n, seed)


def _seed(seed: Sequence[int], number: int) -> Sequence[int]:
    """Teachers may share a model; their luck is their own."""
    return (*seed, number) if number else seed
