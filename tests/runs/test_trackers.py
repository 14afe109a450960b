from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.runs.fakes import fake_build, fake_config
from zppo.errors import ConfigError
from zppo.runs.directory import RunDirectory
from zppo.runs.trackers import Trackers, flatten
from zppo.runs.train import resume, train


def test_flatten_keeps_numbers() -> None:
    nested = {"a": 1, "b": {"x": 0.5, "y": {"z": True}}, "c": "text", "d": None}
    assert dict(flatten(nested)) == {"a": 1.0, "b/x": 0.5, "b/y/z": 1.0}


def test_tensorboard_has_every_step_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root = tmp_path / "run"
    config = fake_config(root, "run.tensorboard=true", "run.steps=4")
    train(config, build=fake_build, quiet=True)
    (root / "checkpoints" / "step-000004" / "state.json").unlink()  # back to step 2
    resume(root, ["run.steps=6"], build=fake_build, quiet=True)
    events = EventAccumulator(str(root / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("accuracy/plain")] == [1, 2, 3, 4, 5, 6]
    assert {e.step for e in events.Scalars("evaluation/all")} == {0, 6}


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = fake_config(tmp_path / "run", "run.trackers=[wandb]")
    with pytest.raises(ConfigError, match=r"pip install 'zppo\[track\]'"):
        train(config, build=fake_build, quiet=True)
    assert not (tmp_path / "run").exists()


def _module(**names: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(__spec__=object(), **names)


class _FakeRun:
    def __init__(self, log: list[Any]) -> None:
        self.records = log

    def log(self, scalars: dict[str, float], step: int) -> None:
        self.records.append((step, scalars))

    def finish(self) -> None:
        self.records.append("finish")


def test_wandb_goes_on_under_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    records: list[Any] = []

    def init(**kwargs: Any) -> _FakeRun:
        started.append(kwargs)
        return _FakeRun(records)

    monkeypatch.setitem(sys.modules, "wandb", _module(init=init))
    config = fake_config(tmp_path / "run", "run.trackers=[wandb]", "run.steps=2")
    train(config, build=fake_build, quiet=True)
    resume(tmp_path / "run", ["run.steps=4"], build=fake_build, quiet=True)
    assert len(started) == 2 and started[0]["id"] == started[1]["id"]
    assert all(s["resume"] == "allow" and s["project"] == "zppo" for s in started)
    steps = [r[0] for r in records if r != "finish" and "accuracy/plain" in r[1]]
    assert steps == [1, 2, 3, 4] and records.count("finish") == 2


def test_a_tracker_that_fails_is_dropped_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(_FakeRun):
        def log(self, scalars: dict[str, float], step: int) -> None:
            raise ConnectionError("no route")

    warnings: list[str] = []
    trackio = _module(init=lambda **kwargs: Broken([]))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    config = fake_config(tmp_path, "run.trackers=[trackio]")
    trackers = Trackers(config, RunDirectory(tmp_path), 0, warnings.append)
    trackers.log(1, {"a": 1})
    trackers.log(2, {"a": 1})
    trackers.close(complete=True)
    assert warnings == ["trackio failed and is left out from now on: no route"]
