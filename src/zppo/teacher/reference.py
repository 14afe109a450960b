"""The data's own worked solutions as the teacher: one correct trace a question, and no model.

Beyond the paper. Where rows carry a solution (GSM8K, MATH), hard questions get their BCQ without a
teacher model. Who compresses the traces is another teacher, or nobody (`algorithm.compress=none`).
"""

from __future__ import annotations

from collections.abc import Sequence

from zppo.errors import TeacherError
from zppo.rewards import extract_boxed
from zppo.teacher.base import ReportsFailures, Teacher, TeacherRequest, close_teacher
from zppo.types import Question, TeacherFailure


class ReferenceTeacher:
    """Implements `zppo.teacher.base.Teacher`. `compressor` does the text tasks."""

    def __init__(self, compressor: Teacher | None = None) -> None:
        self.compressor = compressor
        self._failures: list[TeacherFailure] = []

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """The one solution of each question, whatever `n`; none where the row has none."""
        return [self._solution(question) for question, _ in prompts]

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """What the compressor says. Raises `TeacherError` when there is none."""
        if self.compressor is None:
            raise TeacherError(
                "teacher.kind=reference has no model for text tasks; set teacher.compressor, or "
                "algorithm.compress=none."
            )
        return await self.compressor.complete(requests, seed)

    def drain_failures(self) -> list[TeacherFailure]:
        """See `ReportsFailures`."""
        failures, self._failures = self._failures, []
        inner = self.compressor
        return failures + (inner.drain_failures() if isinstance(inner, ReportsFailures) else [])

    async def aclose(self) -> None:
        """See `Closes`."""
        await close_teacher(self.compressor)

    def _solution(self, question: Question) -> list[str]:
        if not question.reference or not question.reference.strip():
            self._failures.append(TeacherFailure(question.id, "answer", "no_reference"))
            return []
        return [with_answer(question.reference.strip(), question.answer)]


def with_answer(solution: str, answer: str) -> str:
    """The solution with its answer in a box, as the rewards read it; left alone if it has one.

    Data sets write the answer of a solution in their own ways, and the gold answer is what it says.
    """
    return solution if extract_boxed(solution) is not None else f"{solution}\n\\boxed{{{answer}}}"
