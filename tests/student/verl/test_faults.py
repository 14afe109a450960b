"""A Ray worker, a rollout server, a relay and the driver are killed in turn: a clear message within
a deadline, and a resume that goes on from the last checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.e2e.test_methods import LuckyGrader
from tests.runs.fakes import comparable
from tests.student.verl import engine as e
from zppo.config import Config, dump_config
from zppo.errors import EngineError
from zppo.runs.build import RunParts, build_run
from zppo.runs.train import resume, train

pytestmark = [pytest.mark.verl, pytest.mark.skipif(not e.READY, reason=e.REASON)]

#: Seconds from the kill to the message. Nothing waits longer than `verl.worker_timeout`, which is
#: far more in these tests.
DEADLINE = 120


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with e.ray_of_cpus():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("faults")
    return SimpleNamespace(
        root=root,
        model=e.write_model(root / "model"),
        questions=e.write_questions(root / "questions.jsonl"),
    )


def _config(files: SimpleNamespace, name: str, ranks: int, *overrides: str) -> Config:
    return e.config(
        files.model,
        ranks,
        f"data.train={files.questions}",
        f"run.dir={files.root}/{name}",
        "run.steps=3",
        "run.checkpoint_every=1",
        *overrides,
    )


class Struck:
    """A student whose engine loses a part at the start of its second `phase`."""

    def __init__(self, student: Any, phase: str, strike: Callable[[Any], None]) -> None:
        self.student, self.phase, self.strike, self.calls = student, phase, strike, 0
        self.struck_at = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.student, name)
        if name == self.phase:
            self.calls += 1
            if self.calls == 2:
                self.strike(self.student)
                self.struck_at = time.monotonic()
        return found


def _lucky(config: Config) -> RunParts:
    parts = build_run(config)
    return replace(parts, step=replace(parts.step, grader=LuckyGrader()))


def _kill_a_worker(student: Any) -> None:
    pids = student.cluster.on_each_worker(lambda worker: os.getpid())
    os.kill(pids[-1], signal.SIGKILL)


def _kill_a_server(student: Any) -> None:
    import ray

    ray.kill(student.cluster.servers.get_replicas()[-1].servers[0])


def _kill_a_relay(student: Any) -> None:
    student.relays[-1].close()


@pytest.mark.parametrize(
    "name, ranks, phase, strike",
    [
        ("worker", 2, "update", _kill_a_worker),
        ("server", 1, "rollout", _kill_a_server),
        ("relay", 1, "rollout", _kill_a_relay),
    ],
    ids=["a worker", "a rollout server", "a relay"],
)
def test_a_part_is_killed(ray_here, files, name, ranks, phase, strike):
    config = _config(files, name, ranks)
    struck: list[Struck] = []

    def build(config: Config) -> RunParts:
        parts = _lucky(config)
        struck.append(Struck(parts.step.student, phase, strike))
        return replace(parts, step=replace(parts.step, student=struck[0]))  # pyright: ignore

    with pytest.raises(EngineError, match=r"worker or rollout server failed to .*zppo resume"):
        train(config, build=build, quiet=True)
    assert time.monotonic() - struck[0].struck_at < DEADLINE
    assert [row["step"] for row in comparable(Path(config.run.dir))] == [1]

    assert resume(config.run.dir, build=_lucky, quiet=True).complete
    assert [row["step"] for row in comparable(Path(config.run.dir))] == [1, 2, 3]


def test_the_driver_is_killed(ray_here, files, tmp_path):
    import ray

    address = ray.get_runtime_context().gcs_address
    config = _config(files, "driver", 1, f"verl.ray_address={address}")
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "zppo", "train", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    checkpoint = Path(config.run.dir) / "checkpoints/step-000001/state.json"
    give_up = time.monotonic() + 900
    while not checkpoint.exists() and time.monotonic() < give_up and process.poll() is None:
        time.sleep(0.1)
    process.kill()
    said, _ = process.communicate()
    assert checkpoint.exists(), said

    assert resume(config.run.dir, build=_lucky, quiet=True).complete
    assert [row["step"] for row in comparable(Path(config.run.dir))] == [1, 2, 3]
