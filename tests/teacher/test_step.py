"""Whole steps and runs with a teacher over the network."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_methods import make_parts
from tests.runs.fakes import comparable, fake_build, fake_config
from tests.teacher.server import Server
from tests.teacher.test_openai import HASTE, RULES, teacher
from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.step import training_step
from zppo.config import Config, DataConfig, OpenAITeacherConfig
from zppo.errors import RunError, TeacherError
from zppo.lab.puzzles import questions
from zppo.runs.build import RunParts, build_teacher, check_teacher
from zppo.runs.train import resume, train
from zppo.teacher.openai import OpenAITeacher
from zppo.teacher.scripted import compress
from zppo.types import GroupKind, Question

#: Puzzles with media share their text; a number tells the server which one it is asked.
LAB = {
    q.id: replace(q, text=f"Puzzle {q.id}: {q.text}")
    for kind in ("image", "text", "video")
    for q in [q for q in questions("train") if q.source.startswith(kind)][:40:9]
}


def lab_answer(body, k: int) -> str:
    """The lab's solution of a puzzle, or its compression of a response."""
    text = tiny_text(body)
    response = re.search(r"<response>\n(.*)\n</response>", text, re.DOTALL)
    if response:
        return f"<summary>{compress(response[1])}</summary>"
    puzzle = re.match(r"Puzzle (\S+):", text)
    return (LAB[puzzle[1]].reference or "") if puzzle else "ready"


def tiny_text(body) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def step_once(*servers: Server, method: str = "zppo", **options):
    one = teacher(*servers, **options)
    parts = replace(make_parts(method, "student.sampler_batch_tokens=1"), teacher=one)

    async def main():
        try:
            return await training_step(1, list(LAB.values())[::2], PromptReplayBuffer(20), parts)
        finally:
            await one.aclose()

    return asyncio.run(main())


def test_a_whole_step():
    """Text, image and video questions; teacher rollouts and compression over HTTP."""
    with Server(answer=lab_answer) as server:
        result = step_once(server)
    kinds = {g.kind for g in result.groups}
    assert kinds >= {GroupKind.PLAIN, GroupKind.BCQ, GroupKind.NCQ}
    assert result.teacher_failures == () and result.metrics["teacher/failed_share"] == 0.0
    assert result.metrics["teacher/asked"] == len(server.seen)
    assert any(not isinstance(s.body["messages"][0]["content"], str) for s in server.seen)


TROUBLE = ["ok", "500", "reset", "one", "empty", "429", "half", "junk"]


def test_a_whole_step_with_servers_that_misbehave():
    """Everything that can pass does pass within the attempts."""
    behave = lambda number: TROUBLE[number % len(TROUBLE)]  # noqa: E731
    with Server(lab_answer, default=behave) as bad, Server(lab_answer) as good:
        result = step_once(bad, good, max_attempts=8)
    assert result.teacher_failures == ()
    assert {g.kind for g in result.groups} >= {GroupKind.BCQ, GroupKind.NCQ}


@pytest.mark.parametrize("behaviour", ["500", "hang", "junk", "huge", "reset"])
def test_a_step_goes_on_without_any_answer(behaviour):
    with Server(default=behaviour) as server:
        result = step_once(server, timeout_s=0.1, max_attempts=2, max_outage_s=0.2)
    assert {g.kind for g in result.groups} == {GroupKind.PLAIN}
    if behaviour == "huge":  # answers, all of them wrong, and no summary of them
        assert result.metrics["zone/compress_refused"] > 0
        return
    assert result.metrics["teacher/failed_share"] == 1.0
    failed = {f.question_id for f in result.teacher_failures if f.purpose == "answer"}
    assert failed == set(result.teacher_rollouts)


def test_a_changed_answer_never_gets_into_a_prompt():
    def lying(body, k):
        if "<response>" in tiny_text(body):
            return "<summary>so \\boxed{99}</summary>"
        return lab_answer(body, k)

    with Server(answer=lying) as server:
        result = step_once(server)
    bcq = [r for r in result.reformulations if r.kind is GroupKind.BCQ]
    assert bcq and all(r.prompt is None and "answer_changed" in r.refused for r in bcq)
    assert result.metrics["zone/compress_refused/answer_changed"] > 0


def test_a_hint_with_the_answer_in_it_never_gets_into_a_prompt():
    def telling(body, k):
        if "Write a hint" in tiny_text(body):
            return "<hint>\\boxed{99}</hint>"
        return lab_answer(body, k)

    with Server(answer=telling) as server:
        result = step_once(server, method="grpo+replay+hint")
    hints = [r for r in result.reformulations if r.kind is GroupKind.HINT]
    asked = [r for r in hints if r.refused]
    assert asked and all(r.prompt is None for r in hints)
    assert result.metrics["zone/hint_refused/shows_answer"] == len(asked)
    assert "zone/compress_refused" not in result.metrics


def test_the_teacher_works_while_others_still_roll_out():
    """The first request comes before the last plain rollout is done."""
    times = {}
    with Server(answer=lab_answer) as server:
        one = teacher(server)
        parts = replace(make_parts("zppo", "student.sampler_batch_tokens=1"), teacher=one)

        async def main():
            import time

            def progress(phase, done, total):
                times.setdefault((phase, done), time.monotonic())

            await training_step(1, list(LAB.values())[:8], PromptReplayBuffer(20), parts, progress)
            await one.aclose()

        asyncio.run(main())
    assert min(s.at for s in server.seen) < times["plain", 8]


# -- runs ------------------------------------------------------------------------------------------


def sum_answer(body, k: int) -> str:
    text = tiny_text(body)
    response = re.search(r"<response>\n(.*)\n</response>", text, re.DOTALL)
    if response:
        return f"<summary>{response[1].split('[/think]')[-1]}</summary>"
    number = re.search(r"What is (\d+)", text)
    return f"\\boxed{{{2 * int(number[1])}}}" if number else "ready"


def net_build(config: Config, options: OpenAITeacherConfig) -> RunParts:
    parts = fake_build(config)
    one = OpenAITeacher(options, DataConfig(), HASTE, RULES)
    data = replace(parts.data, train=[replace(q, media=()) for q in parts.data.train])
    return RunParts(replace(parts.step, teacher=one), data)


def options(server: Server, **more) -> OpenAITeacherConfig:
    endpoint = {"url": server.url, "model": "m", "api_key_env": "ZPPO_TEST_KEY"}
    settings = {"endpoints": [endpoint], "max_attempts": 2, "max_outage_s": 0.1} | more
    return OpenAITeacherConfig.model_validate(settings)


def test_the_key_is_never_on_disk(tmp_path, monkeypatch, capfd):
    """Not even when a server sends it back, as an answer or as an error."""
    key = "sk-secret-0123456789"
    monkeypatch.setenv("ZPPO_TEST_KEY", key)
    monkeypatch.setenv("OPENAI_LOG", "debug")
    behave = lambda number: "echo" if number % 5 == 4 else "ok"  # noqa: E731
    with Server(lambda b, k: f"{key} {sum_answer(b, k)}", default=behave) as server:
        chosen = options(server)
        config = fake_config(tmp_path / "run", "run.steps=2", "run.tensorboard=true")
        config = config.model_copy(update={"teacher": chosen})
        build = functools.partial(net_build, options=chosen)
        assert train(config, build=build).complete
    assert any(key in s.headers["authorization"] for s in server.seen)
    written = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert len(written) > 8
    for path in written:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        assert key.encode() not in text, path
    assert "ZPPO_TEST_KEY" in (tmp_path / "run" / "config.yaml").read_text()
    shown = capfd.readouterr()
    assert key not in shown.out + shown.err


def test_too_much_failure_stops_a_run_that_can_be_resumed(tmp_path, monkeypatch):
    """No step is lost: the state before the failing one is saved."""
    monkeypatch.setenv("ZPPO_TEST_KEY", "k")
    with Server(sum_answer) as server:
        build = functools.partial(net_build, options=options(server))
        settings = ["run.checkpoint_every=5", "run.steps=4", "run.max_teacher_failure_share=0.5"]
        whole = fake_config(tmp_path / "whole", *settings)
        assert train(whole, build=build, quiet=True).complete
        calls = len(server.seen)
        steps = [json.loads(x) for x in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
        assert len(steps) == 4

        first = len(server.seen) + int(calls * 0.6)
        server.default = lambda number: "ok" if number < first else "500"
        broken = fake_config(tmp_path / "run", *settings)
        with pytest.raises(
            RunError, match=r"was not taken for want of a teacher[\s\S]*zppo resume"
        ):
            train(broken, build=build, quiet=True)
        done = len((tmp_path / "run/metrics.jsonl").read_text().splitlines())
        assert 0 < done < 4
        assert (tmp_path / "run" / "checkpoints" / f"step-{done:06d}").is_dir()

        server.default = "ok"
        assert resume(tmp_path / "run", build=build, quiet=True).complete
    mine, theirs = comparable(tmp_path / "run"), comparable(tmp_path / "whole")
    assert mine == theirs


def test_failures_are_in_the_metrics_and_in_the_rollout_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZPPO_TEST_KEY", "k")
    with Server(sum_answer, default="500") as server:
        build = functools.partial(net_build, options=options(server))
        assert train(fake_config(tmp_path / "run", "run.steps=2"), build=build, quiet=True).complete
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert row["teacher/failed_share"] == 1.0
    assert any(key.startswith("teacher/failed/") for key in row)
    log = gzip.decompress((tmp_path / "run/rollouts/step-000001.jsonl.gz").read_bytes())
    lines = [json.loads(line) for line in log.splitlines()]
    failed = [line for line in lines if line["type"] == "teacher_failed"]
    assert failed and {"question", "purpose", "reason", "count"} <= set(failed[0])
    assert "the teacher gave nothing on 100% of its calls" in capsys.readouterr().out


# -- building --------------------------------------------------------------------------------------


def test_the_servers_are_asked_before_a_run_starts(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ZPPO_TEST_KEY", "k")
    with Server() as server:
        config = fake_config(tmp_path)
        config = config.model_copy(update={"teacher": options(server)})
        check_teacher(config, [Question("q", "?", "1")])
        assert isinstance(build_teacher(config), OpenAITeacher)
        server.default = "404"
        with pytest.raises(TeacherError, match="cannot be asked"):
            check_teacher(config, [Question("q", "?", "1")])


def test_steps_with_a_network_teacher_repeat():
    """Whatever order the replies came in."""

    def metrics():
        with Server(answer=lab_answer) as server:
            return {k: v for k, v in step_once(server).metrics.items() if not k.startswith("time/")}

    assert metrics() == metrics()
