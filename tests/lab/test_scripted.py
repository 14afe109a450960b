"""The scripted teacher: right as often as it says, brief, and discreet in its hints."""

from __future__ import annotations

import asyncio

import pytest

from zppo.algorithm.prompts import parse_hint, parse_summary
from zppo.lab.examples import boxed
from zppo.lab.puzzles import questions
from zppo.teacher.base import TeacherRequest
from zppo.teacher.scripted import ScriptedTeacher
from zppo.types import Question


def ask(teacher: ScriptedTeacher, seed: int, n: int = 4) -> list[list[str]]:
    prompts = [(q, "ignored") for q in questions("train")[:400]]
    return asyncio.run(teacher.sample(prompts, n, (seed,)))


def complete(purpose: str, question: Question, text: str) -> str | None:
    request = TeacherRequest(purpose, question, "ignored", text)  # pyright: ignore[reportArgumentType]
    return asyncio.run(ScriptedTeacher().complete([request], (0,)))[0]


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_error_rate(rate: float):
    answers = [q.answer for q in questions("train")[:400]]
    replies = ask(ScriptedTeacher(rate), 0)
    wrong = [boxed(r) != a for a, group in zip(answers, replies, strict=True) for r in group]
    assert sum(wrong) / len(wrong) == pytest.approx(rate, abs=0.04 if 0 < rate < 1 else 0)


def test_same_seed_same_replies_and_samples_are_fresh():
    teacher = ScriptedTeacher(0.5)
    assert ask(teacher, 1) == ask(teacher, 1)
    assert ask(teacher, 1) != ask(teacher, 2)
    assert any(len(set(group)) > 1 for group in ask(teacher, 1))


def test_reply_does_not_depend_on_the_other_questions():
    teacher, (a, b) = ScriptedTeacher(0.5), questions("train")[:2]
    both = asyncio.run(teacher.sample([(a, ""), (b, "")], 4, (3,)))
    alone = asyncio.run(teacher.sample([(b, "")], 4, (3,)))
    assert both[1] == alone[0]


def test_a_question_without_reference_is_named():
    with pytest.raises(ValueError, match="question `q7` has no reference"):
        asyncio.run(ScriptedTeacher().sample([(Question("q7", "?", "1"), "")], 1, (0,)))


def test_compression_keeps_answer_and_drops_tags():
    for question in questions("train")[:50]:
        reply = complete("compress", question, question.reference or "")
        summary = parse_summary(reply or "")
        assert summary is not None
        assert summary.splitlines()[-1] == f"\\boxed{{{question.answer}}}"
        assert len(summary.splitlines()) <= 5
        assert "<" not in summary


def test_compression_of_odd_responses():
    question = questions("train")[0]
    long = "\n".join(f"line {i}" for i in range(20)) + "\n\\boxed{1}\n\\boxed{ 2 }"
    summary = parse_summary(complete("compress", question, long) or "") or ""
    assert len(summary.splitlines()) == 5 and summary.endswith("\\boxed{ 2 }")
    assert parse_summary(complete("compress", question, "<think>\nno box") or "") == "no box"


def test_hints_hold_no_answer():
    for question in questions("train")[:200]:
        text = parse_hint(complete("hint", question, question.reference or "") or "")
        assert text and "=" not in text and "boxed" not in text
    assert complete("judge", questions("train")[0], "x") is None
