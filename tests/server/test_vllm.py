"""A real inference server as the teacher: `pytest -m server tests/server`."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.vllm_server import MODEL, NAME, NoServer, serving
from zppo.config import Config, DataConfig, OpenAITeacherConfig, load_config
from zppo.errors import TeacherError
from zppo.runs.train import train
from zppo.teacher.base import TeacherRequest
from zppo.teacher.openai import OpenAITeacher
from zppo.types import Question

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    try:
        with serving() as url:
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


def test_a_run_of_two_steps(url, tmp_path: Path):
    """SmolLM2 teaches itself: what it gets right is beside the point, every call must be kept."""
    rows = [
        {"id": f"q{i}", "question": f"What is {i} + {i + 3}?", "answer": str(2 * i + 3)}
        for i in range(8)
    ]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train(_config(url, data, tmp_path / "run"), quiet=True).complete
    steps = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2
    asked = sum(step.get("teacher/asked", 0) for step in steps)
    assert asked > 0 and all(step["teacher/failed_share"] == 0.0 for step in steps)
    answers = 0
    for file in sorted((tmp_path / "run/rollouts").glob("*.gz")):
        lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
        answers += sum(len(x["rollouts"]) for x in lines if x["type"] == "teacher")
        assert not [x for x in lines if x["type"] == "teacher_failed"]
    hard = sum(step.get("teacher/questions", 0) for step in steps)
    assert answers == 4 * hard
    refused = [step.get("zone/compress_refused_share") for step in steps]
    print(f"{asked} calls, {hard} hard questions, {answers} answers; refused: {refused}")


def _config(url: str, data: Path, run: Path) -> Config:
    teacher = options(url, max_response_tokens=64).model_dump(mode="json")
    settings = {
        "student.model": str(MODEL),
        "student.dtype": "bf16",
        "student.device": "cpu",
        "student.threads": 1,
        "teacher": json.dumps(teacher),
        "data.train": str(data),
        "data.validation": "null",
        "rollout.max_response_tokens": 24,
        "algorithm.group_size": 2,
        "algorithm.rho_aug": 0.5,
        "optimizer.updates_per_step": 1,
        "run.steps": 2,
        "run.prompts_per_step": 4,
        "run.dir": str(run),
        "run.tensorboard": "false",
    }
    return load_config("lab", [f"{key}={value}" for key, value in settings.items()])
