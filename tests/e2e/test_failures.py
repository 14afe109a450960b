"""What a step does when a part of it fails: the error that is raised names the cause itself."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from PIL import Image

from tests import tiny
from tests.e2e.test_methods import make_parts
from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.lessons import inject
from zppo.algorithm.step import training_step
from zppo.errors import DataError, TeacherError
from zppo.lab.puzzles import questions
from zppo.teacher.scripted import ScriptedTeacher
from zppo.types import (
    Group,
    GroupKind,
    Media,
    Prompt,
    Question,
    Response,
    Rollout,
    RolloutStatus,
    TeacherRollout,
)


def test_a_teacher_error_surfaces_as_itself_and_changes_nothing():
    class Broken(ScriptedTeacher):
        async def sample(self, prompts, n, seed):
            await asyncio.sleep(0)
            raise TeacherError("the teacher answered 401")

    parts = replace(make_parts("zppo"), teacher=Broken())
    before = [p.detach().clone() for p in parts.student.model.parameters()]
    buffer = PromptReplayBuffer(20)
    with pytest.raises(TeacherError, match="401"):
        asyncio.run(training_step(1, questions("train")[:8], buffer, parts))
    assert len(buffer) == 0
    assert all(map(_equal, before, parts.student.model.parameters()))


def test_a_student_error_surfaces_as_itself():
    picture = io.BytesIO()
    Image.new("RGB", (2_100, 10)).save(picture, "PNG")
    cases = {
        "no such file": Question("a", "1?", "1", media=(Media("image", ("/no/such.png",)),)),
        "`b`": Question("b", "1?", "1", media=(Media("image", (picture.getvalue(),)),)),
    }
    for message, question in cases.items():
        with pytest.raises(DataError, match=message):
            asyncio.run(training_step(1, [question], PromptReplayBuffer(9), make_parts("zppo")))


def test_an_injected_rollout_is_graded_and_fits_the_response_limit():
    """Its status is its own, and a teacher response longer than a student's may be stays out."""
    parts = make_parts("grpo+replay+inject", "rollout.max_response_tokens=12")
    question = Question("q", "1?", "1")
    wrong = Rollout(Response(tiny_ids(3), None, "", False), 0.0, RolloutStatus.TRUNCATED)
    group = Group(Prompt(question, GroupKind.PLAIN, "1?"), (wrong, wrong))
    short, long = TeacherRollout("\\boxed{1}", True, "1"), TeacherRollout("1 " * 40, True, "1")
    out = inject(group, {"q": (long, short)}, 1, parts)
    injected = [r for r in out.rollouts if r.injected]
    assert [r.response.text for r in injected] == ["\\boxed{1}"]
    assert injected[0].status is RolloutStatus.GRADED and injected[0].correct
    assert inject(group, {"q": (long,)}, 1, parts) is group


def tiny_ids(n: int):
    import numpy as np

    return np.asarray(tiny.tokenizer()("1 " * n)["input_ids"][:n])


def _equal(a, b) -> bool:
    return bool((a == b).all())
