"""What becomes of a teacher's compression before it may stand in a prompt."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from tests.e2e.test_methods import make_parts
from zppo.algorithm.reformulate import reformulate
from zppo.teacher.scripted import ScriptedTeacher
from zppo.types import (
    Group,
    GroupKind,
    Prompt,
    Question,
    Response,
    Rollout,
    RolloutStatus,
    TeacherRollout,
)

QUESTION = Question("q", "1/4 + 1/4 = ?", "1/2")


def group(*texts: str) -> Group:
    rollouts = tuple(
        Rollout(Response(np.zeros(1, np.int64), None, t, True), 0.0, RolloutStatus.NO_ANSWER)
        for t in texts
    )
    return Group(Prompt(QUESTION, GroupKind.PLAIN, QUESTION.text), rollouts)


def build(replies: dict[str, str], *texts: str, teacher: tuple[TeacherRollout, ...] = ()):
    """BCQ and NCQ of a question whose student wrote `texts` and whose teacher compresses each
    trace as `replies` says."""

    class Compressor(ScriptedTeacher):
        async def complete(self, requests, seed):
            return [f"<summary>{replies[r.source_text]}</summary>" for r in requests]

    parts = replace(make_parts("zppo", kind="llama"), teacher=Compressor())
    out = asyncio.run(reformulate([group(*texts)], {"q": teacher}, 1, parts))
    return {r.kind: r for r in out}


@pytest.mark.parametrize("leak", ["so \\boxed{1/2}", "so \\boxed{0.5}", "\\boxed{\\frac{1}{2}}"])
def test_a_wrong_trace_never_comes_back_with_the_gold_answer(leak):
    """The student gave no answer; the teacher, asked for a boxed one, put its own."""
    replies = {"I am lost": leak, "so 2": "so \\boxed{2}", "right": "right \\boxed{1/2}"}
    ncq = build(replies, "I am lost", "so 2")[GroupKind.NCQ]
    assert [c.text for c in ncq.candidates] == ["so \\boxed{2}"]
    assert build(replies, "I am lost")[GroupKind.NCQ].skipped == "compression failed"
    right = (TeacherRollout("right", True, "1/2"),)
    bcq = build(replies, "I am lost", teacher=right)[GroupKind.BCQ]
    assert bcq.prompt is None and bcq.skipped == "compression failed"


def test_a_right_trace_without_a_box_may_get_one():
    """A judge accepted it; its summary boxes the answer it stated."""
    replies = {"it is half": "half \\boxed{1/2}", "so 2": "so \\boxed{2}"}
    right = (TeacherRollout("it is half", True, "1/2"),)
    bcq = build(replies, "so 2", teacher=right)[GroupKind.BCQ]
    assert {c.text for c in bcq.candidates} == {"half \\boxed{1/2}", "so \\boxed{2}"}


def test_a_boxed_answer_must_stay_as_it_was():
    kept = build({"\\boxed{7}": "short \\boxed{7}"}, "\\boxed{7}")[GroupKind.NCQ]
    assert [c.text for c in kept.candidates] == ["short \\boxed{7}"]
    for changed in ("short \\boxed{8}", "short, no box"):
        out = build({"\\boxed{7}": changed}, "\\boxed{7}")[GroupKind.NCQ]
        assert out.skipped == "compression failed"


class Mind(ScriptedTeacher):
    """Compresses as `replies` says, attempt after attempt, and remembers what it was asked."""

    def __init__(self, *replies: str | None):
        super().__init__()
        self.replies, self.seen = replies, []

    async def complete(self, requests, seed):
        reply = self.replies[len(self.seen)]
        self.seen.append((requests, seed))
        return [reply and reply.replace("TRACE", r.source_text) for r in requests]


def ask(teacher, *overrides, texts=("\\boxed{7}",)):
    parts = replace(make_parts("grpo+replay+ncq", *overrides, kind="llama"), teacher=teacher)
    (ncq,) = asyncio.run(reformulate([group(*texts)], {}, 1, parts))
    return ncq


def test_a_refused_compression_is_asked_for_again_sampled_and_with_another_seed():
    teacher = Mind("<summary>\\boxed{8}</summary>", "<summary>TRACE</summary>")
    ncq = ask(teacher)
    assert [c.text for c in ncq.candidates] == ["\\boxed{7}"] and ncq.refused == ()
    ((one,), first), ((two,), second) = teacher.seen
    assert one.prompt == two.prompt and first != second
    assert one.temperature == 0.0 < two.temperature


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("no tags", "no_summary"),
        ("<summary>\\boxed{8}</summary>", "answer_changed"),
        (f"<summary>{'1 ' * 600}TRACE</summary>", "too_long"),
    ],
)
def test_a_refusal_is_recorded_with_its_reason(reply, reason):
    teacher = Mind(reply, reply, reply)
    ncq = ask(teacher, "algorithm.compress_attempts=3")
    assert ncq.skipped == "compression failed" and ncq.refused == (reason,)
    assert len(teacher.seen) == 3


def test_a_failed_call_is_not_asked_again():
    """The teacher has tried often enough by itself."""
    teacher = Mind(None)
    assert ask(teacher).refused == ("no_reply",) and len(teacher.seen) == 1
