"""Traces shortened for candidate blocks: one prompt and one cap for right and wrong ones.

A candidate must stay as right or wrong as its trace was, so what the teacher returns is checked
before it is used; a refused one is asked for again, sampled, and in the end left out with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zppo.algorithm.prompts import Templates, parse_summary
from zppo.config import AlgorithmConfig
from zppo.rewards import extract_boxed, grade
from zppo.student.base import Student
from zppo.teacher.base import Teacher, TeacherRequest
from zppo.types import Question

#: Temperature of every attempt after the first: a greedy teacher would repeat itself.
RETRY_TEMPERATURE = 0.7


class Refusal(StrEnum):
    """Why a compressed trace is not used."""

    NO_REPLY = "no_reply"  # the teacher's call failed; the reason is in its own account
    NO_SUMMARY = "no_summary"
    TOO_LONG = "too_long"
    ANSWER_CHANGED = "answer_changed"
    GOLD_ANSWER = "gold_answer"  # put into a wrong trace that had no answer
    EMPTY = "empty"  # nothing left of the trace to show


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
    done: dict[tuple[str, str], str | Refusal] = {}
    for attempt in range(config.compress_attempts):
        open_ = {k: t for k, t in wanted.items() if k not in done or _worth_asking(done[k])}
        requests = [
            TeacherRequest(
                "compress",
                t.question,
                templates.compress(t.question, t.text),
                t.text,
                cap,
                RETRY_TEMPERATURE if attempt else 0.0,
            )
            for t in open_.values()
        ]
        if not requests:
            break
        replies = await teacher.complete(requests, (*seed, attempt) if attempt else seed)
        for (key, trace), reply in zip(open_.items(), replies, strict=True):
            done[key] = checked(reply, trace, cap, student)
    return done


def _worth_asking(outcome: str | Refusal) -> bool:
    """A call that failed was tried often enough by the teacher itself."""
    return isinstance(outcome, Refusal) and outcome is not Refusal.NO_REPLY


def checked(reply: str | None, trace: Trace, cap: int, student: Student) -> str | Refusal:
    """The summary in a teacher's reply, or why it cannot stand for `trace`.

    A wrong trace without a box must not come back with the gold answer in one: the teacher may
    know it.
    """
    if reply is None:
        return Refusal.NO_REPLY
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
