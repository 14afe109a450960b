"""The grader that a config describes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.runs.fakes import FakeTeacher, comparable, fake_build, fake_config, questions
from tests.teacher.server import Server
from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.errors import ConfigError, TeacherError
from zppo.lab import models
from zppo.rewards import Grade, RuleGrader
from zppo.rewards.grader import close_grader, drain_metrics
from zppo.rewards.judge import JudgeGrader
from zppo.runs import evaluation, train
from zppo.runs.build import RunParts, build_teacher, check_judge
from zppo.runs.directory import RunDirectory
from zppo.runs.grading import build_grader, check_grading
from zppo.teacher.base import Teacher
from zppo.types import Media, Question, Response, RolloutStatus

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


def server_config(root: Path, url: str, *more: str) -> Config:
    judge = f"judge={{kind: openai, endpoints: [{{url: '{url}', model: m}}], max_attempts: 1}}"
    return fake_config(root, judge, *more)


def test_a_judge_behind_a_server(tmp_path: Path) -> None:
    """Over HTTP: greedy, text alone, its capped reply read as it is, its failures by reason."""
    verdicts = {"blue light scatters": "correct", "the sea": "wrong"}

    def answer(body: dict[str, Any], k: int) -> str:
        prompt = json.dumps(body["messages"])
        found = [verdict for text, verdict in verdicts.items() if text in prompt]
        return json.dumps({"verdict": found[0]}) if found else "I do not know."

    question = Question("q", "Why?", "Rayleigh", "free", media=(Media("image", ("none.png",)),))
    boxes = ["blue light scatters", "the sea", "magic", "Rayleigh"]
    items = [(question, Response(np.zeros(1, int), None, f"\\boxed{{{b}}}", True)) for b in boxes]
    with Server(answer) as server:
        config = server_config(tmp_path, server.url, "rewards.judge_check_share=0")
        check_judge(config, [question])
        server.seen.clear()
        grader = build_grader(config, Templates.default(), build_teacher)

        async def main() -> list[Grade]:
            try:
                return await grader.grade(items)
            finally:
                await close_grader(grader)

        grades = asyncio.run(main())
        assert [g.correct for g in grades] == [True, False, False, True]
        assert grades[2].status is RolloutStatus.JUDGE_MALFORMED
        assert {seen.body["temperature"] for seen in server.seen} == {0.0}
        assert {seen.body["max_tokens"] for seen in server.seen} == {512}
        assert len(server.seen) == 3
        server.default = "500"
        late = [(question, Response(np.zeros(1, int), None, r"\boxed{late}", True))]
        assert asyncio.run(grader.grade(late))[0].status is RolloutStatus.JUDGE_ERROR
        metrics = drain_metrics(grader)
        assert metrics["judge/errors"] == 1
        assert sum(n for k, n in metrics.items() if k.startswith("judge/failed/")) == 1


def test_a_judge_whose_server_is_not_there_is_found_out_early(tmp_path: Path) -> None:
    with Server() as server:
        url = server.url
    with pytest.raises(TeacherError, match=r"127\.0\.0\.1"):
        check_judge(server_config(tmp_path, url), questions(1))


def test_a_local_model_as_the_judge(tmp_path: Path) -> None:
    """A tiny untrained one: it works as a judge and its verdicts are no verdicts."""
    loaded = tiny.loaded("text")
    models.save(loaded.model, loaded.tokenizer, tmp_path / "model")
    judge = f"judge={{kind: local, model: {tmp_path / 'model'}}}"
    config = fake_config(tmp_path, judge, "rewards.judge_max_tokens=16")
    grader = build_grader(config, Templates.default(), build_teacher)
    item = Question("q", "Why?", "because", "free"), Response(np.zeros(1, int), None, "so", True)
    assert asyncio.run(grader.grade([item])) == [Grade(False, RolloutStatus.JUDGE_MALFORMED)]


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


def test_a_resumed_run_asks_its_judge_no_more_often(tmp_path: Path) -> None:
    def build(config: Config) -> RunParts:
        parts = fake_build(config)
        grader = build_grader(config, parts.step.templates, judge_of)
        return replace(parts, step=replace(parts.step, grader=grader))

    def settings(name: str, steps: int) -> Config:
        more = (f"run.steps={steps}", "rewards.judge_check_share=1.0", "evaluation.every=1")
        return fake_config(tmp_path / name, JUDGE, *more)

    whole = train.train(settings("whole", 6), build=build, quiet=True).run_dir
    parted = train.train(settings("parted", 3), build=build, quiet=True).run_dir
    with (parted / "judge.jsonl").open("a") as log:  # a step that is to be taken again
        log.write('{"step": 4, "verdicts": {"x": "wrong"}}\n')
    train.resume(parted, ["run.steps=6"], build=build, quiet=True)
    assert comparable(parted) == comparable(whole)
    assert RunDirectory(parted).verdicts() == RunDirectory(whole).verdicts() != {}
    hits = [row["judge/cache_hits"] for row in comparable(whole)[3:]]
    forgetful = train.train(settings("forgetful", 3), build=build, quiet=True).run_dir
    (forgetful / "judge.jsonl").unlink()
    train.resume(forgetful, ["run.steps=6"], build=build, quiet=True)
    assert sum(hits) > sum(row["judge/cache_hits"] for row in comparable(forgetful)[3:])
