"""Whole steps and runs of the distillation methods on tiny models: what is learnt from, by whom
it is judged, what the buffer sees, and a resume that is exact."""

from __future__ import annotations

import copy
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests import tiny
from tests.e2e.test_methods import make_parts, run
from tests.runs.fakes import FakeTeacher, comparable, fake_build, fake_config
from tests.teacher.test_local import KindGrader
from zppo.algorithm.methods import METHODS
from zppo.algorithm.step import StepParts
from zppo.config import Config, LocalTeacherConfig, load_config
from zppo.errors import ModelError, RunError
from zppo.lab import models
from zppo.runs.build import build_run
from zppo.runs.check import check
from zppo.runs.train import resume, train
from zppo.student.local import LocalStudent
from zppo.teacher.local import LocalTeacher
from zppo.types import GroupKind

METHOD_NAMES = [name for name, method in METHODS.items() if method.distill]
TEACHER = "teacher={kind: local, model: lab-teacher, max_response_tokens: 8}"
#: Random tokens decode to text that takes more tokens to write.
LONGER = "rollout.max_response_tokens=32"


def distilling(method: str) -> StepParts:
    parts = make_parts(method, TEACHER, LONGER, "optimizer.lr=3e-3")
    assert isinstance(parts.config.teacher, LocalTeacherConfig)
    teacher = LocalTeacher(tiny.loaded("vlm", seed=3), parts.config, parts.config.teacher)
    student = Watched(tiny.loaded("vlm"), parts.config)
    return replace(parts, student=student, teacher=teacher, grader=KindGrader())


class Watched(LocalStudent):
    """Keeps what it was taught, and what it sampled."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lessons, self.sampled = [], []

    async def rollout(self, prompts, n, seed, sampling=None):
        async for chunk in super().rollout(prompts, n, seed, sampling):
            self.sampled += [id(r) for responses in chunk.values() for r in responses]
            yield chunk

    async def distill(self, groups, teacher):
        self.lessons.append(groups)
        return await super().distill(groups, teacher)

    async def update(self, groups, advantages, updates, seed):
        raise AssertionError("no policy gradient in a distillation method")


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_distillation_method_trains(method):
    parts = distilling(method)
    before = [p.detach().clone() for p in parts.student.model.parameters()]
    theirs = [p.detach().clone() for p in parts.teacher.loaded.model.parameters()]
    results, buffer = run(parts, steps=2)
    for result in results:
        assert {g.kind for g in result.groups} == {GroupKind.PLAIN}
        assert len([g for g in result.groups if not g.replayed]) == 8
        assert all(len(g.rollouts) == 4 for g in result.groups)
        assert not any(r.injected for g in result.groups for r in g.rollouts)
        assert result.metrics["update/count"] == 1  # although optimizer.updates_per_step is 2
        assert 0 < result.metrics["update/loss"] < np.log(2)
        assert result.metrics["update/grad_norm"] > 0
        assert not result.advantages.any()
    replayed = sum(g.replayed for r in results for g in r.groups)
    assert (replayed > 0) == METHODS[method].replay == (len(buffer) > 0)
    moved = zip(before, parts.student.model.parameters(), strict=True)
    assert any(not torch.equal(b, p) for b, p in moved)
    kept = zip(theirs, parts.teacher.loaded.model.parameters(), strict=True)
    assert all(torch.equal(b, p) for b, p in kept)


def test_off_policy_learns_from_the_correct_rollouts_of_all_questions():
    parts = distilling("off_distill+replay")
    results, _ = run(parts, steps=3)
    unsolved, easy = 0, 0
    for result, lessons in zip(results, parts.student.lessons, strict=True):
        asked = {g.question.id for g in result.groups}
        assert set(result.teacher_rollouts) == asked  # easy ones and replayed ones, too
        easy += sum(g.accuracy >= 0.5 for g in result.groups)
        assert all(len(ts) == 4 for ts in result.teacher_rollouts.values())
        by_question = {g.question.id: g for g in lessons}
        for name, answers in result.teacher_rollouts.items():
            right = [t.text for t in answers if t.correct]
            unsolved += not right
            taught = by_question[name].rollouts if right else ()
            assert [r.response.text for r in taught] == right
            assert (name in by_question) == bool(right)
    assert unsolved and easy


def test_on_policy_learns_from_all_of_the_students_own_rollouts_and_asks_nothing():
    parts = distilling("on_distill+replay")
    results, _ = run(parts, steps=2)
    for result, lessons in zip(results, parts.student.lessons, strict=True):
        assert [id(g) for g in lessons] == [id(g) for g in result.groups]
        assert all(id(r.response) in parts.student.sampled for g in lessons for r in g.rollouts)
        assert result.teacher_rollouts == {} and result.metrics["teacher/asked"] == 0


def test_a_step_without_a_correct_teacher_rollout_teaches_nothing():
    class Never(KindGrader):
        async def grade(self, items):
            return [
                replace(v, correct=v.correct and bool(len(r.token_ids)))
                for v, (_, r) in zip(await super().grade(items), items, strict=True)
            ]

    parts = replace(distilling("off_distill"), grader=Never())
    before = [p.detach().clone() for p in parts.student.model.parameters()]
    results, _ = run(parts, steps=1)
    assert results[0].metrics["update/tokens_with_gradient"] == 0
    assert results[0].metrics["update/grad_norm"] == 0 == results[0].metrics["update/loss"]
    kept = zip(before, parts.student.model.parameters(), strict=True)
    assert all(torch.equal(b, p) for b, p in kept)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, seed in (("student", 0), ("teacher", 3)):
        loaded = tiny.loaded("vlm", seed)
        models.save(loaded.model, loaded.tokenizer, root / name)
    return root / "student", root / "teacher"


def kind_build(config: Config):
    parts = build_run(config)
    return replace(parts, step=replace(parts.step, grader=KindGrader()))


@pytest.mark.parametrize("method", ["off_distill+replay", "on_distill+replay"])
def test_resume_is_exact(method: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    student, teacher = folders
    root = tmp_path / "run"
    overrides = [
        f"method={method}",
        f"student.model={student}",
        f"teacher={{kind: local, model: {teacher}, max_response_tokens: 8}}",
        "optimizer.lr=1e-3",
        "data.limit=24",
        "data.validation=null",
        f"run.dir={root}",
        "run.steps=2",
        "run.checkpoint_every=1",
        "run.prompts_per_step=4",
        "run.tensorboard=false",
        "algorithm.group_size=4",
        "algorithm.rho_replay=0.5",
        LONGER,
    ]
    assert train(load_config("lab", overrides), build=kind_build, quiet=True).complete
    rows = comparable(root)
    assert len({row["update/loss"] for row in rows}) == 2 and rows[-1]["buffer/size"] > 0
    shutil.rmtree(root / "checkpoints" / "step-000002")
    assert resume(root, build=kind_build, quiet=True).complete
    assert comparable(root) == rows


def test_another_tokenizer_stops_the_run_and_the_check_before_anything_is_done(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tiny.loaded("vlm", 3)
    tokenizer = copy.deepcopy(other.tokenizer)
    tokenizer.add_tokens(["zebra"])
    other.model.resize_token_embeddings(len(tokenizer))
    models.save(other.model, tokenizer, tmp_path / "teacher")
    config = load_config(
        "lab",
        [
            "method=on_distill",
            f"student.model={folders[0]}",
            f"teacher={{kind: local, model: {tmp_path / 'teacher'}}}",
            "data.limit=12",
            "data.validation=null",
            f"run.dir={tmp_path / 'run'}",
        ],
    )
    with pytest.raises(ModelError, match=r"student` and `.*teacher` differ: .*'zebra'"):
        train(config, quiet=True)
    assert not (tmp_path / "run").exists()
    shown = io.StringIO()
    assert check(config, Console(file=shown, width=400)) == 1
    assert re.search(r"FAIL +tokenizer .*'zebra'", shown.getvalue())


def test_a_refused_update_leaves_its_batch_behind(tmp_path: Path) -> None:
    class Reader(FakeTeacher):
        vocabulary_size, hidden, logits = 100, print, print

    def build(config: Config):
        parts = fake_build(config, fail_at_update=2)
        return replace(parts, step=replace(parts.step, teacher=Reader()))

    config = fake_config(tmp_path / "run", "method=off_distill", TEACHER)
    with pytest.raises(RunError, match=r"Step 2 was stopped"):
        train(config, build=build, quiet=True)
    dumped = (tmp_path / "run" / "failures" / "step-000002.jsonl").read_text().splitlines()
    groups = [row for row in map(json.loads, dumped) if row["type"] == "group"]
    # Three of the fake teacher's four answers are right, and those alone are learnt from.
    assert len(groups) == 8 and {len(g["rollouts"]) for g in groups} == {3}
    assert all(r["injected"] and r["reward"] == 1.0 for g in groups for r in g["rollouts"])
