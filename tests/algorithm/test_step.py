"""Steps 4 and 5 with fakes: waves choose what the whole would, failures free their slots."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.algorithm.reformulate import reformulate
from zppo.algorithm.step import StepParts, _reformulate_up_to
from zppo.algorithm.zone import post_cap, pre_cap
from zppo.config import load_config
from zppo.rewards import RuleGrader
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


class WordStudent:
    """As much of a student as reformulation asks for: words are tokens."""

    context_limit = 10_000

    def encode(self, text):
        return [hash(w) for w in text.split()]

    def prompt_tokens(self, prompt):
        return len(prompt.text.split())


class CountingTeacher:
    """Compresses by repeating; fails, or changes the answer, on chosen questions."""

    def __init__(self, fails=(), changes=()):
        self.fails, self.changes, self.asked = set(fails), set(changes), 0

    async def complete(self, requests, seed):
        self.asked += len(requests)
        return [self._reply(r) for r in requests]

    def _reply(self, request):
        if request.question.id in self.fails:
            return None
        text = request.source_text
        if request.question.id in self.changes:
            text = text.replace("boxed{", "boxed{9")
        return f"<summary>{text}</summary>"


def hard_group(i: int, wrong: int) -> Group:
    question = Question(f"q{i}", f"question {i}", "1")
    rollouts = tuple(
        Rollout(
            Response(
                np.array([1]), None, f"trace {i}.{k} \\boxed{{{k + 2 if k < wrong else 1}}}", True
            ),
            float(k >= wrong),
            RolloutStatus.GRADED,
            str(k + 2 if k < wrong else 1),
        )
        for k in range(8)
    )
    return Group(Prompt(question, GroupKind.PLAIN, question.text), rollouts)


def make(method="zppo", **teacher):
    config = load_config(None, [f"method={method}"])
    return StepParts(
        config, METHODS[config.method], WordStudent(), CountingTeacher(**teacher),
        RuleGrader(), Templates.default(),
    )  # fmt: skip


def zone(n=12, without_right=(), seed=0):
    rng = np.random.default_rng(seed)
    groups = [hard_group(i, int(rng.integers(5, 9))) for i in range(n)]
    right = {
        f"q{i}": (TeacherRollout(f"teacher {i} \\boxed{{1}}", i not in without_right, "1"),)
        for i in range(n)
    }
    return pre_cap(groups, n, rng), right


@pytest.mark.parametrize("cap", [1, 2, 3, 7, 12, 40])
@pytest.mark.parametrize("trouble", [{}, {"fails": ["q3", "q5"]}, {"changes": ["q0", "q7", "q8"]}])
@pytest.mark.parametrize("method", ["zppo", "grpo+replay+bcq", "grpo+replay+ncq"])
def test_waves_choose_what_the_whole_would(cap, trouble, method):
    kept, right = zone(without_right={1, 4})
    parts = make(method, **trouble)
    whole = asyncio.run(reformulate(kept, right, 3, make(method, **trouble)))
    waves = asyncio.run(_reformulate_up_to(cap, kept, right, 3, parts, lambda *_: None))
    assert post_cap(kept, waves, cap) == post_cap(kept, whole, cap)
    assert waves == whole[: len(waves)]


def test_waves_spend_few_teacher_calls():
    kept, right = zone()
    few, all_ = make(), make()
    asyncio.run(_reformulate_up_to(4, kept, right, 1, few, lambda *_: None))
    asyncio.run(reformulate(kept, right, 1, all_))
    assert few.teacher.asked <= all_.teacher.asked / 4


def test_a_changed_answer_refuses_the_candidate():
    kept, right = zone(n=2)
    built = asyncio.run(reformulate(kept, right, 1, make(changes=["q0"])))
    reasons = {(r.question.id, r.kind): r.skipped for r in built}
    assert reasons[("q0", GroupKind.BCQ)] == "compression failed"
    assert reasons[("q0", GroupKind.NCQ)] == "compression failed"
    assert reasons[("q1", GroupKind.BCQ)] == ""


def test_both_candidates_are_compressed_with_one_prompt_and_cap():
    """The same template, the same cap; a trace that BCQ and NCQ share is compressed once."""
    kept, right = zone(n=1)
    seen = []

    class Recording(CountingTeacher):
        async def complete(self, requests, seed):
            seen.extend(requests)
            return await super().complete(requests, seed)

    parts = make()
    parts = StepParts(
        parts.config, parts.method, parts.student, Recording(), parts.grader, parts.templates
    )
    built = asyncio.run(reformulate(kept, right, 1, parts))
    assert {r.max_tokens for r in seen} == {parts.config.algorithm.candidate_max_tokens}
    frames = {r.prompt.replace(r.source_text, "") for r in seen}
    assert len(frames) == 1
    assert len(seen) == len({r.source_text for r in seen})
    assert {r.kind for r in built} == {GroupKind.BCQ, GroupKind.NCQ}


def test_ncq_lists_each_wrong_answer_once_and_never_the_teacher():
    kept, right = zone(n=1)
    (ncq,) = asyncio.run(reformulate(kept, right, 1, make("grpo+replay+ncq")))
    wrong = [r.extracted for r in kept[0].rollouts if not r.correct]
    assert list(ncq.wrong_answers) == list(dict.fromkeys(wrong))
    assert len(ncq.candidates) == len(wrong)
    assert "teacher" not in ncq.prompt.text


def test_compression_can_be_switched_off():
    kept, right = zone(n=2)
    parts = make()
    config = load_config(None, ["algorithm.compress=none", "algorithm.candidate_max_tokens=3"])

    class Cutting(WordStudent):
        def encode(self, text):
            return text.split()

        def decode(self, ids):
            return " ".join(ids)

    parts = StepParts(config, parts.method, Cutting(), None, parts.grader, parts.templates)
    built = asyncio.run(reformulate(kept, right, 1, parts))
    assert all(r.prompt is not None for r in built)
    assert all(len(c.text.split()) <= 3 for r in built for c in r.candidates)


def test_the_place_of_the_right_candidate_tells_nothing():
    """600 BCQ prompts built the real way: right first half of the time, and no tie to the
    question's number, its accuracy or the step."""
    first, accuracy, parity = [], [], []
    for step in range(3):
        kept, right = zone(n=200, seed=step)
        accuracies = {g.question.id: g.accuracy for g in kept}
        for r in asyncio.run(reformulate(kept, right, step, make("grpo+replay+bcq"))):
            first.append(r.candidates[0].correct)
            accuracy.append(accuracies[r.question.id])
            parity.append(int(r.question.id[1:]) % 2)
            shown = r.prompt.text
            assert shown.index(r.candidates[0].text) < shown.index(r.candidates[1].text)
    first = np.array(first, dtype=float)
    sigma = 0.5 / np.sqrt(len(first))
    assert len(first) == 600 and abs(first.mean() - 0.5) < 4 * sigma
    for other in (accuracy, parity):
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(len(first))
