"""Traces shortened for candidate blocks: one prompt and one cap for right and wrong ones.

A candidate must stay as right or wrong as its trace was, so what the teacher returns is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zppo.algorithm.checked import Refusal, ask_checked
from zppo.algorithm.prompts import Templates, parse_summary
from zppo.config import AlgorithmConfig
from zppo.rewards import extract_boxed, grade
from zppo.student.base import Student
from zppo.teacher.base import Teacher, TeacherRequest
from zppo.types import Question


@dataclass(frozen=True, slots=True)
class Trace:
    """A response to compress. `right` is its reward's verdict."""

    question: Question
    text: str
    right: bool


#: Compressed text, or why there is none, by (question id, trace).
Compressed = Mapping[tuple[str, str], str | Refusal]


async def compress(
    traces: Sequence[Trace],
    config: AlgorithmConfig,
    student: Student,
    teacher: Teacher | None,
    templates: Templates,
    seed: Sequence[int],
) -> Compressed:
    """Compress every trace once, or cut it where `config.compress` is none.

    `student` counts the tokens of the cap. `teacher` is only needed to compress.
    """
    cap = config.candidate_max_tokens
    wanted = {(t.question.id, t.text): t for t in traces}
    if config.compress == "none":
        return {key: _cut(t.text, cap, student) or Refusal.EMPTY for key, t in wanted.items()}
    assert teacher is not None, "config validation requires a teacher here"
    requests = {
        key: TeacherRequest(
            "compress", t.question, templates.compress(t.question, t.text), t.text, cap
        )
        for key, t in wanted.items()
    }

    def check(key: tuple[str, str], reply: str) -> str | Refusal:
        return checked(reply, wanted[key], cap, student)

    return await ask_checked(requests, check, config.compress_attempts, teacher, seed)


def checked(reply: str, trace: Trace, cap: int, student: Student) -> str | Refusal:
    """The summary in a teacher's reply, or why it cannot stand for `trace`.

    A wrong trace without a box must not come back with the gold answer in one: the teacher may
    know it.
    """
    summary = parse_summary(reply)
    if summary is None:
        return Refusal.NO_SUMMARY
    if len(student.encode(summary)) > cap:
        return Refusal.TOO_LONG
    answer = extract_boxed(trace.text)
    if answer is not None:
        return summary if extract_boxed(summary) == answer else Refusal.ANSWER_CHANGED
    question = trace.question
    if not trace.right and grade(summary, question.answer, question.kind, question.options).correct:
        return Refusal.GOLD_ANSWER
    return summary


def _cut(text: str, cap: int, student: Student) -> str:
    return student.decode(student.encode(text)[:cap]).strip()
