"""A teacher that is a program: it knows the lab's worked traces and errs at a set rate.

It lets a whole run, tests included, work without a second model. Like a real teacher it only sees
one question or one response at a time; unlike one it never needs to read the prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from zppo.lab.puzzles import wrong_response
from zppo.teacher.base import TeacherRequest
from zppo.types import Question

MAX_LINES = 5
_BOXED = re.compile(r"\\boxed\{[^{}]*\}")


class ScriptedTeacher:
    """Implements `Teacher` for questions that carry a `reference`."""

    def __init__(self, error_rate: float = 0.1) -> None:
        if not 0.0 <= error_rate <= 1.0:
            raise ValueError(f"error_rate must lie in [0, 1], not {error_rate}")
        self.error_rate = error_rate

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """`n` responses a question: the reference, or at `error_rate` a trace with one slip."""
        return [
            [self._answer(question, _rng(seed, question.id, k)) for k in range(n)]
            for question, _ in prompts
        ]

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """Summaries and hints by rule. It is no judge: such a request fails."""
        return [_complete(request) for request in requests]

    def _answer(self, question: Question, rng: random.Random) -> str:
        if question.reference is None:
            raise ValueError(
                f"question `{question.id}` has no reference; the scripted teacher only knows "
                "questions of the lab (teacher.kind=scripted needs data.train=lab:...)"
            )
        if rng.random() < self.error_rate:
            return wrong_response(question, rng)
        return question.reference


def _rng(seed: Sequence[int], question_id: str, number: int) -> random.Random:
    """Seeded by text, which Python hashes with SHA-512: the same in every process."""
    return random.Random(f"{'/'.join(map(str, seed))}|{question_id}|{number}")


def _complete(request: TeacherRequest) -> str | None:
    if request.purpose == "compress":
        return f"<summary>\n{compress(request.source_text)}\n</summary>"
    if request.purpose == "hint":
        return f"<hint>\n{hint(request.source_text)}\n</hint>"
    return None


def compress(response: str) -> str:
    """The steps of a response and its boxed answer as it stood, in at most five lines."""
    steps, boxed = _parts(response)
    room = MAX_LINES - (boxed is not None)
    return "\n".join([*steps[:room], *([boxed] if boxed is not None else [])])


def hint(response: str) -> str:
    """How to begin, without a total: "Start with 3, then add 8, 5 and so on." """
    steps, _ = _parts(response)
    digits = re.findall(r"(?:^|\+)(\d)", steps[0])[:2] if steps else []
    if not digits:
        return "Add the digits one by one and keep the running total."
    return f"Keep a running total. Start with {', then add '.join(digits)}, and so on."


def _parts(response: str) -> tuple[list[str], str | None]:
    """The non-empty lines outside tags and boxes, and the last boxed expression."""
    boxed = _BOXED.findall(response)
    text = _BOXED.sub("", re.sub(r"</?think>", "\n", response))
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line], boxed[-1] if boxed else None
