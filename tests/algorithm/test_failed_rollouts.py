"""A rollout that an engine failed to sample: counted with reward 0, never shown as a candidate."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from tests.e2e.test_methods import make_parts
from zppo.algorithm.reformulate import reformulate
from zppo.algorithm.step import sample_and_grade
from zppo.lab.puzzles import questions
from zppo.types import (
    GroupKind,
    Prompt,
    Response,
    RolloutStatus,
    TeacherRollout,
)


class HalfBroken:
    """A student of which every second rollout fails."""

    def __init__(self, student):
        self.student = student

    def __getattr__(self, name):
        return getattr(self.student, name)

    async def rollout(self, prompts, n, seed, sampling=None):
        some = Response(np.arange(3), None, "so it is \\boxed{x}", True)
        failed = Response(np.empty(0, dtype=np.int64), None, "", False, "refused")
        yield {i: tuple((some, failed)[k % 2] for k in range(n)) for i in range(len(prompts))}


def test_it_is_counted_and_never_a_candidate():
    parts = make_parts("zppo", kind="llama")
    parts = replace(parts, student=HalfBroken(parts.student))
    question = next(q for q in questions("train") if not q.media)
    prompt = Prompt(question, GroupKind.PLAIN, question.text)
    [group] = asyncio.run(sample_and_grade([prompt], 4, (0,), parts))
    statuses = [r.status for r in group.rollouts]
    assert statuses[1::2] == [RolloutStatus.ROLLOUT_ERROR] * 2
    assert RolloutStatus.ROLLOUT_ERROR not in statuses[::2]
    assert [r.reward for r in group.rollouts[1::2]] == [0.0, 0.0]

    wrong = replace(
        group, rollouts=tuple(replace(r, reward=0.0, extracted="x") for r in group.rollouts)
    )
    answers = {question.id: (TeacherRollout(question.reference or "", True, "1"),)}
    built = asyncio.run(reformulate([wrong], answers, 1, parts))
    [ncq] = [r for r in built if r.kind is GroupKind.NCQ]
    assert len(ncq.candidates) == 2
    assert all(c.original for r in built for c in r.candidates)
