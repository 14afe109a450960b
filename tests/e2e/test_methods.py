"""Whole training steps of every method on a tiny VLM and real lab questions."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from tests import tiny
from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.algorithm.step import StepParts, training_step
from zppo.config import MethodName
from zppo.lab.puzzles import questions
from zppo.rewards import Grade, RuleGrader
from zppo.student.local import LocalStudent
from zppo.teacher.scripted import ScriptedTeacher
from zppo.types import GroupKind, RolloutStatus


class LuckyGrader:
    """Real verdicts for texts (the teacher's), luck for sampled responses: an untrained student
    is right one time in five, so that groups are all-wrong, mixed and all-right."""

    async def grade(self, items):
        real = await RuleGrader().grade(items)
        return [
            verdict
            if len(response.token_ids) == 0
            else Grade(zlib.crc32(response.token_ids.tobytes()) % 5 == 0, RolloutStatus.GRADED, "7")
            for verdict, (_, response) in zip(real, items, strict=True)
        ]


def make_parts(method: str, *overrides: str, kind: str = "vlm") -> StepParts:
    config = tiny.config(
        "algorithm.rho_replay=0.5", "algorithm.rho_aug=0.5", *overrides, method=method
    )
    return StepParts(
        config,
        METHODS[config.method],
        LocalStudent(tiny.loaded(kind), config),
        ScriptedTeacher(0.2),
        LuckyGrader(),
        Templates.default(),
    )


def run(parts: StepParts, steps: int = 3, buffer: PromptReplayBuffer | None = None):
    buffer = buffer or PromptReplayBuffer(20)
    pool = questions("train")[::150]
    results = []
    for step in range(1, steps + 1):
        new = [pool[(step * 8 + i) % len(pool)] for i in range(8)]
        results.append(asyncio.run(training_step(step, new, buffer, parts)))
    return results, buffer


EXPECTED = {
    "grpo": set(),
    "grpo+replay": set(),
    "grpo+bcq+ncq": {GroupKind.BCQ, GroupKind.NCQ},
    "grpo+replay+bcq": {GroupKind.BCQ},
    "grpo+replay+ncq": {GroupKind.NCQ},
    "zppo": {GroupKind.BCQ, GroupKind.NCQ},
    "grpo+replay+hint": {GroupKind.HINT},
    "grpo+replay+prefix": {GroupKind.PREFIX},
    "grpo+replay+inject": set(),
}


#: The distillation methods have a page of tests of their own.
POLICY_GRADIENT = [m for m in get_args(MethodName) if "distill" not in m]


@pytest.mark.parametrize("method", POLICY_GRADIENT)
def test_every_method_trains(method):
    # Injected teacher responses must fit into the student's own limit.
    longer = ["rollout.max_response_tokens=64"] if method == "grpo+replay+inject" else []
    parts = make_parts(method, *longer)
    before = [p.detach().clone() for p in parts.student.model.parameters()]
    results, buffer = run(parts)
    kinds = {g.kind for r in results for g in r.groups}
    assert kinds == {GroupKind.PLAIN} | EXPECTED[method]
    for result in results:
        plain = [g for g in result.groups if g.kind is GroupKind.PLAIN]
        extra = [g for g in result.groups if g.kind is not GroupKind.PLAIN]
        assert len([g for g in plain if not g.replayed]) == 8
        assert len(extra) <= 4
        assert all(len(g.rollouts) == 4 for g in result.groups)
        assert result.metrics["update/count"] == 2
        assert len(result.advantages) == sum(len(g.rollouts) for g in result.groups)
        assert np.isfinite(result.metrics["update/loss"])
        # What entered the gradient was sampled by the student, but for the naive baseline.
        injected = [r for g in result.groups for r in g.rollouts if r.injected]
        assert (method == "grpo+replay+inject") or not injected
    replayed = sum(g.replayed for r in results for g in r.groups)
    assert (replayed > 0) == METHODS[method].replay == (len(buffer) > 0)
    if method == "grpo+replay+inject":
        assert any(r.injected for res in results for g in res.groups for r in g.rollouts)
    moved = [
        not torch.equal(b, p) for b, p in zip(before, parts.student.model.parameters(), strict=True)
    ]
    assert any(moved)


@pytest.mark.parametrize("method", [m for m in POLICY_GRADIENT if "inject" not in m])
def test_every_token_of_the_gradient_was_sampled_by_the_student(method):
    """The invariant of the method, watched at the engine's own door: what `update` is given is
    what `rollout` returned, object for object, log-probs included."""
    sampled: set[int] = set()
    kept_alive = []  # so that no id is used twice

    class Watched(LocalStudent):
        async def rollout(self, prompts, n, seed, sampling=None):
            async for chunk in super().rollout(prompts, n, seed, sampling):
                kept_alive.append(chunk)
                sampled.update(id(r) for responses in chunk.values() for r in responses)
                yield chunk

        async def update(self, groups, advantages, updates, seed):
            learnt = [r.response for g in groups for r in g.rollouts]
            assert learnt and all(id(r) in sampled and r.logprobs is not None for r in learnt)
            return await super().update(groups, advantages, updates, seed)

    parts = make_parts(method)
    student = Watched(tiny.loaded("vlm"), parts.config)
    run(replace(parts, student=student), steps=2)


def test_the_same_step_twice_gives_the_same_metrics():
    runs = [run(make_parts("zppo"), steps=2)[0] for _ in range(2)]
    for one, two in zip(*runs, strict=True):
        keep = {k: v for k, v in one.metrics.items() if not k.startswith("time/")}
        assert keep == {k: two.metrics[k] for k in keep}


def test_bcq_prompts_hold_a_right_and_a_wrong_trace_of_their_question():
    results, _ = run(make_parts("grpo+bcq+ncq"))
    seen = 0
    for result in results:
        for r in result.reformulations:
            if r.kind is GroupKind.BCQ and r.prompt is not None:
                seen += 1
                assert sorted(c.correct for c in r.candidates) == [False, True]
                right = next(c for c in r.candidates if c.correct)
                assert right.extracted == r.question.answer
                assert [right.original in t.text for t in result.teacher_rollouts[r.question.id]]
                assert r.prompt.text.count("<candidate>") == 2
            if r.kind is GroupKind.NCQ and r.prompt is not None:
                assert not any(c.correct for c in r.candidates)
                for answers in result.teacher_rollouts.get(r.question.id, ()):
                    assert answers.text not in r.prompt.text
    assert seen >= 3


def test_bcq_order_carries_no_information():
    """Over many questions and steps the right candidate comes first half of the time, and the
    order is independent of everything else drawn for the question."""
    from zppo.algorithm.reformulate import question_rng

    first = np.array(
        [
            question_rng(0, step, f"q{i}", "order").random() < 0.5
            for step in range(50)
            for i in range(200)
        ]
    )
    other = np.array(
        [
            question_rng(0, step, f"q{i}", "candidates").integers(2) == 0
            for step in range(50)
            for i in range(200)
        ]
    )
    sigma = 0.5 / np.sqrt(len(first))
    assert abs(first.mean() - 0.5) < 4 * sigma
    assert abs((first == other).mean() - 0.5) < 4 * sigma


def test_only_plain_rollouts_move_the_buffer():
    """BCQ and NCQ rollouts that are all right admit nothing and graduate nothing."""

    class ReformulatedAlwaysRight(LuckyGrader):
        """Plain responses are wrong. Reformulated prompts are told by their longer text."""

        plain = True

        async def grade(self, items):
            verdicts = await RuleGrader().grade(items)
            sampled = bool(items) and len(items[0][1].token_ids) > 0
            return (
                [Grade(not self.plain, RolloutStatus.GRADED, "1")] * len(items)
                if sampled
                else verdicts
            )

    class Student(LocalStudent):
        def rollout(self, prompts, n, seed, sampling=None):
            grader.plain = prompts[0].kind is GroupKind.PLAIN
            return super().rollout(prompts, n, seed, sampling)

    grader = ReformulatedAlwaysRight()
    parts = make_parts("zppo")
    parts = StepParts(
        parts.config, parts.method, Student(tiny.loaded("vlm"), parts.config), parts.teacher,
        grader, parts.templates,
    )  # fmt: skip
    results, buffer = run(parts, steps=1)
    kinds = {g.kind: g.accuracy for g in results[0].groups}
    assert kinds[GroupKind.PLAIN] == 0.0 and kinds[GroupKind.BCQ] == 1.0
    assert len(buffer) == 8
    assert results[0].metrics["buffer/graduated"] == 0


def test_prefix_tokens_are_context_and_never_in_the_loss():
    parts = make_parts("grpo+replay+prefix")
    results, _ = run(parts, steps=1)
    groups = [g for g in results[0].groups if g.kind is GroupKind.PREFIX]
    assert groups
    for group in groups:
        forced = parts.student.decode(group.prompt.prefix_ids)
        texts = [t.text for t in results[0].teacher_rollouts[group.question.id] if t.correct]
        assert forced and any(t.startswith(forced) for t in texts)
        share = len(group.prompt.prefix_ids) / len(parts.student.encode(texts[0]))
        assert 0.25 < share <= 0.4
        for rollout in group.rollouts:
            assert rollout.response.text.startswith(forced)
            # What the loss sees is what was sampled after the prefix.
            assert len(rollout.response.token_ids) == len(rollout.response.logprobs) <= 12
        encoded = parts.student.encoder.encode(group.prompt)
        assert tuple(encoded.ids[-len(group.prompt.prefix_ids) :]) == group.prompt.prefix_ids


def test_an_unreachable_teacher_leaves_ncq_or_nothing():
    class Down(ScriptedTeacher):
        async def sample(self, prompts, n, seed):
            return [[] for _ in prompts]

    parts = make_parts("zppo")
    parts = StepParts(
        parts.config, parts.method, parts.student, Down(), parts.grader, parts.templates
    )
    results, _ = run(parts, steps=1)
    kinds = {g.kind for g in results[0].groups}
    assert GroupKind.BCQ not in kinds and GroupKind.NCQ in kinds
    assert results[0].metrics["zone/skipped_reasons"] == {"no correct teacher rollout": 4}
    assert results[0].metrics["teacher/unanswered"] > 0


def test_prompts_beyond_the_context_are_refused_with_a_reason():
    parts = make_parts("zppo", "rollout.max_response_tokens=2000")
    from zppo.algorithm.reformulate import _within_context
    from zppo.types import Prompt, Reformulation

    question = questions("train")[0]
    long = Prompt(question, GroupKind.BCQ, "word " * 500)
    out = _within_context(Reformulation(question, GroupKind.BCQ, long), parts.student, parts.config)
    assert out.prompt is None and "leaves no room" in out.skipped
