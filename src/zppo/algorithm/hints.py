"""Hints for the Hint baseline (method section 5): written from a correct trace, without its answer.

What the teacher writes is checked: a hint that gives the answer away would be no hint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from zppo.algorithm.checked import Refusal, ask_checked
from zppo.algorithm.prompts import Templates, parse_hint
from zppo.config import AlgorithmConfig
from zppo.rewards.choices import letter_of_gold
from zppo.student.base import Student
from zppo.teacher.base import Teacher, TeacherRequest
from zppo.types import Question

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,40}(?:,\d{3})*(?:\.\d{1,40})?(?![\w]|\.\d)")
_CLAIM = r"(?:\b(?:answer|result|option|choice)\b(?: is| will be| must be)?|=|\\equiv) ?:? ?"


async def write_hints(
    traces: Mapping[str, tuple[Question, str]],
    config: AlgorithmConfig,
    student: Student,
    teacher: Teacher,
    templates: Templates,
    seed: Sequence[int],
) -> dict[str, str | Refusal]:
    """One hint for each question id from its correct trace, or why there is none.

    `student` counts the tokens of the cap.
    """
    cap = config.candidate_max_tokens
    requests = {
        key: TeacherRequest("hint", question, templates.write_hint(question, text), text, cap)
        for key, (question, text) in traces.items()
    }

    def check(key: str, reply: str) -> str | Refusal:
        return checked_hint(reply, traces[key][0], cap, student)

    return await ask_checked(requests, check, config.compress_attempts, teacher, seed)


def checked_hint(reply: str, question: Question, cap: int, student: Student) -> str | Refusal:
    """The hint in a teacher's reply, or why it cannot be shown."""
    hint = parse_hint(reply)
    if hint is None:
        return Refusal.SHOWS_ANSWER if "<hint>" in reply and "boxed" in reply else Refusal.NO_HINT
    if shows_answer(hint, question):
        return Refusal.SHOWS_ANSWER
    return Refusal.TOO_LONG if len(student.encode(hint)) > cap else hint


def shows_answer(hint: str, question: Question) -> bool:
    """Whether the gold answer stands in `hint`: as a number of its value, as its words, or as the
    letter of an option that is named as one.

    What the question says itself may be said again, unless it is called the answer.
    """
    gold, said = _plain(question.answer), _plain(hint)
    if not gold:
        return False
    if letter := letter_of_gold(question.answer.strip()):
        return re.search(rf"\({letter}\)|{_CLAIM}\(?{letter}\b", said, re.IGNORECASE) is not None
    known = _plain(" ".join((question.text, *(question.options or ()))))
    if (number := _value(gold)) is None:
        stated, repeated = [gold] if _holds(said, gold) else [], _holds(known, gold)
    else:
        stated = [n for n in _NUMBER.findall(said) if _value(n) == number]
        repeated = any(_value(n) == number for n in _NUMBER.findall(known))
    if not stated or not repeated:
        return bool(stated)
    return any(re.search(rf"{_CLAIM}{_bounded(text)}", said) for text in stated)


def _holds(text: str, words: str) -> bool:
    return re.search(_bounded(words), text) is not None


def _bounded(words: str) -> str:
    return rf"(?<!\w){re.escape(words)}(?!\w|\.\d)"


def _plain(text: str) -> str:
    """Lower case, without math delimiters, single spaces."""
    return " ".join(re.sub(r"\\[()\[\]]|\$", "", text).casefold().split())


def _value(text: str) -> Fraction | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    return Fraction(text.replace(",", ""))
