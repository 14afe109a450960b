"""Text tasks of the teacher whose replies are checked before they are used.

A refused reply is asked for again, sampled, and in the end left out with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from zppo.teacher.base import Teacher, TeacherRequest

#: Temperature of every attempt after the first: a greedy teacher would repeat itself.
RETRY_TEMPERATURE = 0.7


class Refusal(StrEnum):
    """Why a reply is not used."""

    NO_REPLY = "no_reply"  # the teacher's call failed; the reason is in its own account
    NO_SUMMARY = "no_summary"
    NO_HINT = "no_hint"
    TOO_LONG = "too_long"
    ANSWER_CHANGED = "answer_changed"
    GOLD_ANSWER = "gold_answer"  # put into a wrong trace that had no answer
    SHOWS_ANSWER = "shows_answer"  # a hint with the gold answer or a box in it
    EMPTY = "empty"  # nothing left of the trace to show


K = TypeVar("K", bound=Hashable)


async def ask_checked(
    requests: Mapping[K, TeacherRequest],
    check: Callable[[K, str], str | Refusal],
    attempts: int,
    teacher: Teacher,
    seed: Sequence[int],
) -> dict[K, str | Refusal]:
    """What `check` makes of the reply to each request: the text to use, or why there is none."""
    done: dict[K, str | Refusal] = {}
    for attempt in range(attempts):
        open_ = [key for key in requests if key not in done or _worth_asking(done[key])]
        if not open_:
            break
        asked = [requests[key] for key in open_]
        if attempt:
            asked = [replace(request, temperature=RETRY_TEMPERATURE) for request in asked]
        replies = await teacher.complete(asked, (*seed, attempt) if attempt else seed)
        for key, reply in zip(open_, replies, strict=True):
            done[key] = Refusal.NO_REPLY if reply is None else check(key, reply)
    return done


def _worth_asking(outcome: str | Refusal) -> bool:
    """A call that failed was tried often enough by the teacher itself."""
    return isinstance(outcome, Refusal) and outcome is not Refusal.NO_REPLY
