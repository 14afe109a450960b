"""The grader that a config describes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.runs.fakes import FakeTeacher, fake_build, fake_config, questions
from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.errors import ConfigError
from zppo.rewards import RuleGrader
from zppo.rewards.judge import JudgeGrader
from zppo.runs import evaluation, train
from zppo.runs.build import RunParts
from zppo.runs.grading import build_grader, check_grading
from zppo.teacher.base import Teacher
from zppo.types import Question, Response

JUDGE = "judge={kind: local, model: none}"


class Judge(FakeTeacher):
    """Finds everything right."""

    async def complete(self, requests, seed):
        return ['{"verdict": "correct"}' for _ in requests]


def judge_of(config: Config) -> Teacher | None:
    return Judge() if config.teacher is not None else None


def test_free_form_questions_need_a_judge(tmp_path: Path) -> None:
    free = [*questions(2), Question("essay", "Why?", "because", "free")]
    with pytest.raises(ConfigError, match=r"1 of 3 .*`essay`.*judge\.kind.*rewards\.free=rule"):
        check_grading(fake_config(tmp_path), free)
    check_grading(fake_config(tmp_path), questions(2))
    check_grading(fake_config(tmp_path, "rewards.free=rule"), free)
    check_grading(fake_config(tmp_path, JUDGE), free)


def test_without_a_judge_the_rule_grades(tmp_path: Path) -> None:
    config = fake_config(tmp_path, "rewards.mode=paper", "rewards.isolate=false")
    grader = build_grader(config, Templates.default(), judge_of)
    assert isinstance(grader, RuleGrader) and grader.mode == "paper" and grader.pool is None


def test_processes_are_bounded_as_configured_and_start_late(tmp_path: Path) -> None:
    config = fake_config(tmp_path, "rewards.workers=3", "rewards.deadline_s=7")
    grader = build_grader(config, Templates.default(), judge_of)
    assert isinstance(grader, RuleGrader) and grader.pool is not None
    assert (grader.pool.workers, grader.pool.deadline_s) == (3, 7.0)
    assert grader.pool.processes() == []


def test_the_judge_is_built_from_its_own_section(tmp_path: Path) -> None:
    config = fake_config(tmp_path, JUDGE)
    seen: list[object] = []

    def build(config: Config) -> Teacher | None:
        seen.append(config.teacher)
        return Judge()

    grader = build_grader(config, Templates.default(), build)
    assert isinstance(grader, JudgeGrader) and seen == [config.judge]
    item = Question("q", "Why?", "because", "free"), Response(np.zeros(1, int), None, "so", True)
    assert asyncio.run(grader.grade([item]))[0].correct


def test_a_run_reports_what_its_judge_was_asked(tmp_path: Path) -> None:
    config = fake_config(tmp_path, JUDGE, "run.steps=1", "rewards.judge_check_share=1.0")

    def build(config: Config) -> RunParts:
        parts = fake_build(config)
        grader = build_grader(config, parts.step.templates, judge_of)
        object.__setattr__(parts.step, "grader", grader)
        return parts

    result = train.train(config, build=build, quiet=True)
    text = (result.run_dir / "metrics.jsonl").read_text()
    for name in ("calls", "cache_hits", "malformed", "disagreement"):
        assert f'"judge/{name}"' in text
    found = evaluation.evaluate(config, build=build)
    assert found.grading["judge/calls"] > 0
