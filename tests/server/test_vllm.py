"""A real inference server as the teacher: `pytest -m server tests/server`."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server.vllm_server import NAME, NoServer, serving, set_up
from zppo.algorithm.prompts import Templates
from zppo.config import DataConfig, OpenAITeacherConfig, load_config
from zppo.errors import TeacherError
from zppo.rewards import RuleGrader
from zppo.rewards.judge import JudgeGrader, JudgeOptions
from zppo.runs.train import train
from zppo.teacher.base import TeacherRequest
from zppo.teacher.openai import OpenAITeacher
from zppo.types import Question, Response, RolloutStatus

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return set_up()
    except NoServer as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    try:
        with serving(model) as url:
            yield url
    except NoServer as reason:
        pytest.skip(str(reason))


def options(url: str, **more) -> OpenAITeacherConfig:
    endpoint = {"url": url, "model": more.pop("model", NAME), "concurrency": 8}
    settings = {"endpoints": [endpoint], "max_response_tokens": 48, "timeout_s": 300.0} | more
    return OpenAITeacherConfig.model_validate(settings)


def sums(n: int) -> list[tuple[Question, str]]:
    return [
        (q, q.text) for q in (Question(f"q{i}", f"What is {i} + 2?", str(i + 2)) for i in range(n))
    ]


def test_it_honours_n_and_seeds(url):
    """Four different samples in one request; the same ones for the same seed."""

    async def ask(seed):
        one = OpenAITeacher(options(url), DataConfig())
        answers = await one.sample(sums(3), 4, seed)
        await one.aclose()
        assert one.endpoints[0].multiple is True and one.drain_failures() == []
        return answers

    first, again, other = (asyncio.run(ask(seed)) for seed in ((0, 1), (0, 1), (0, 2)))
    assert [len(texts) for texts in first] == [4, 4, 4]
    assert all(len(set(texts)) > 1 for texts in first)
    assert sum(a == b for a, b in zip(first, again, strict=True)) >= 2 and first != other


def test_text_tasks_are_capped(url):
    async def ask():
        one = OpenAITeacher(options(url), DataConfig())
        request = TeacherRequest("compress", Question("q", "?", "1"), "Count to 500.", "x", 8)
        replies = await one.complete([request, request], (0,))
        await one.aclose()
        return replies

    one, two = asyncio.run(ask())
    assert one == two and 0 < len(one or "") < 80


def test_a_wrong_name_is_refused_with_advice(url):
    one = OpenAITeacher(options(url, model="smollm3"), DataConfig())
    with pytest.raises(TeacherError, match=r"smollm3[\s\S]*Is the model's name right"):
        asyncio.run(one.check())


SKY = Question("sky", "What colour is the sky on a clear day?", "blue", kind="free")


@pytest.mark.parametrize("schema", [True, False])
def test_a_judge_that_keeps_to_the_schema_gives_verdicts(url, schema):
    """SmolLM2 writes prose where it may (`The final answer is blue.`). Of that none is a verdict,
    and under the schema all of it is; whether they are right is not asked of 135M parameters."""
    judge = OpenAITeacher(options(url), DataConfig())
    rules = JudgeOptions(schema=schema, check_share=0.0, max_failure_share=1.0)
    grader = JudgeGrader(RuleGrader(), judge, Templates.default(), rules)
    answers = ["azure", "a kind of blue", "green", "red", "no colour", "light blue"]
    items = [
        (SKY, Response(np.zeros(1, np.int64), None, f"\\boxed{{{text}}}", True)) for text in answers
    ]

    async def ask():
        try:
            return await grader.grade(items)
        finally:
            await grader.aclose()

    statuses = Counter(grade.status for grade in asyncio.run(ask()))
    counts = grader.drain_metrics()
    print(statuses, counts)
    assert counts["judge/calls"] == 6 and counts["judge/errors"] == 0
    assert counts["judge/malformed"] == statuses[RolloutStatus.JUDGE_MALFORMED]
    assert statuses[RolloutStatus.GRADED] == 6 if schema else counts["judge/malformed"] > 0
    assert judge.endpoints[0].takes_schema


def test_a_run_of_two_steps(url, model, tmp_path: Path):
    """SmolLM2 teaches itself: what it gets right is beside the point, every call must be kept."""
    rows = [
        {"id": f"q{i}", "question": f"What is {i} + {i + 3}?", "answer": str(2 * i + 3)}
        for i in range(8)
    ]
    steps, lines = _run(url, model, rows, tmp_path)
    assert len(steps) == 2
    asked = sum(step.get("teacher/asked", 0) for step in steps)
    assert asked > 0 and all(step["teacher/failed_share"] == 0.0 for step in steps)
    answers = sum(len(x["rollouts"]) for x in lines if x["type"] == "teacher")
    assert not [x for x in lines if x["type"] == "teacher_failed"]
    hard = sum(step.get("teacher/questions", 0) for step in steps)
    assert answers == 4 * hard
    refused = [step.get("zone/compress_refused_share") for step in steps]
    print(f"{asked} calls, {hard} hard questions, {answers} answers; refused: {refused}")


def test_bcq_and_ncq_from_the_servers_own_answers(url, model, tmp_path: Path):
    """Sums so small that the server's model boxes some of them rightly, with an example to go by;
    its traces enter as they are. Free-form questions among them go to it as the judge."""
    (tmp_path / "templates").mkdir()
    closer = "Write the answer in \\boxed{}, as in 1 + 1 = \\boxed{2}."
    (tmp_path / "templates/closer.j2").write_text(closer)
    things = ["apple", "cat", "pen", "book", "coin"]
    rows = [{"id": "sum", "question": "What is 1 + 1?", "answer": "2"}]
    rows += [
        {"id": x, "question": f"Sam has 1 {x} and gets 1 more {x}. What is 1 + 1?", "answer": "2"}
        for x in things
    ]
    rows += [
        {"id": f"free{i}", "question": q, "answer": a, "kind": "free"}
        for i, (q, a) in enumerate([("What is the sky like?", "blue"), ("What is snow?", "ice")])
    ]
    teacher = options(url, temperature=0.4, max_response_tokens=32).model_dump(mode="json")
    judge = options(url).model_dump(mode="json")
    steps, lines = _run(
        url,
        model,
        rows,
        tmp_path,
        teacher=json.dumps(teacher),
        judge=json.dumps(judge),
        **{
            "algorithm.compress": "none",
            "algorithm.candidate_max_tokens": 64,
            "algorithm.teacher_samples": 8,
            "algorithm.rho_aug": 1.0,
            "algorithm.templates": tmp_path / "templates",
            "run.prompts_per_step": 8,
            "rollout.max_response_tokens": 32,
        },
    )
    groups = Counter(x["kind"] for x in lines if x["type"] == "group")
    right = {
        r["text"] for x in lines if x["type"] == "teacher" for r in x["rollouts"] if r["correct"]
    }
    print(groups, right, [s.get("judge/calls") for s in steps])
    assert groups["bcq"] > 0 and groups["ncq"] > 0 and right
    for line in (x for x in lines if x["type"] == "group" and x["kind"] == "bcq"):
        assert sum(c["original"] in right for c in line["candidates"]) == 1
    assert sum(step["judge/calls"] for step in steps) > 0
    assert not any(step["judge/malformed"] or step["judge/errors"] for step in steps)


def _run(url: str, model: Path, rows: list[dict], folder: Path, **more):
    """Metrics by step and all lines of the rollout logs of a run of two steps."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "student.model": model,
        "student.dtype": "bf16",
        "student.device": "cpu",
        "student.threads": 1,
        "teacher": json.dumps(options(url, max_response_tokens=64).model_dump(mode="json")),
        "data.train": data,
        "data.validation": "null",
        "rollout.max_response_tokens": 24,
        "algorithm.group_size": 2,
        "algorithm.rho_aug": 0.5,
        "optimizer.updates_per_step": 1,
        "run.steps": 2,
        "run.prompts_per_step": 4,
        "run.dir": folder / "run",
        "run.tensorboard": "false",
    } | more
    config = load_config("lab", [f"{key}={value}" for key, value in settings.items()])
    assert train(config, quiet=True).complete
    steps = [json.loads(x) for x in (folder / "run/metrics.jsonl").read_text().splitlines()]
    lines = [
        json.loads(line)
        for file in sorted((folder / "run/rollouts").glob("*.gz"))
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    return steps, lines
