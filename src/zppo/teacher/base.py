"""The seam between the algorithm and whatever answers as the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from zppo.types import Question

Purpose = Literal["compress", "hint", "judge"]


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """A text task for the teacher. `prompt` is the rendered template; `question` and `purpose`
    let a scripted teacher answer without reading it."""

    purpose: Purpose
    question: Question
    prompt: str
    source_text: str  # the response to compress, to hint at, or to judge
    max_tokens: int = 512


class Teacher(Protocol):
    """A frozen model that only ever acts inside prompts. A failed call is a value, not an error:
    the question goes on without it and the reason is recorded."""

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """`n` fresh responses to each (question, user-turn text), in order. A question whose
        calls failed has fewer, down to none."""
        ...

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """The reply to each request, None where the call failed."""
        ...
