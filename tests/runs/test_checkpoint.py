from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from tests.runs.fakes import FakeStudent, fake_build, fake_config, questions
from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.errors import RunError
from zppo.runs.checkpoint import (
    best,
    checkpoints,
    find_checkpoint,
    latest,
    load_checkpoint,
    rotate,
    save_checkpoint,
    sweep,
)
from zppo.runs.directory import RunDirectory, step_of
from zppo.runs.train import train


def _save(root: Path, step: int, student: FakeStudent | None = None) -> RunDirectory:
    config = fake_config(root)
    run = RunDirectory(root)
    buffer = PromptReplayBuffer(5)
    buffer.update(questions(8), [0.0, 0.25] * 4, step=step)
    save_checkpoint(run, step, student or FakeStudent(config), buffer, config, "data")
    return run


def _steps(run: RunDirectory) -> list[int]:
    return [step_of(p) for p in checkpoints(run)]


def test_buffer_comes_back_exactly(tmp_path: Path) -> None:
    run = _save(tmp_path, 3)
    expected = PromptReplayBuffer(5)
    expected.update(questions(8), [0.0, 0.25] * 4, step=3)
    student, buffer = FakeStudent(fake_config(tmp_path), skill=0.9), PromptReplayBuffer(1)
    path = latest(run)
    assert path is not None
    load_checkpoint(path, run, student, buffer)
    assert buffer.entries == expected.entries  # image bytes included
    assert (buffer.capacity, buffer.threshold) == (5, 0.5)
    assert student.skill == 0.3
    assert b"image" not in (path / "buffer.jsonl").read_bytes().replace(b'"image"', b"").replace(
        b"image/sums", b""
    )


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    run = _save(tmp_path, 0)
    for step, accuracy in ((2, 0.1), (4, 0.9), (6, 0.2), (8, 0.3)):
        _save(tmp_path, step)
        run.append_evaluation(step, {"accuracy": {"all": accuracy}})
        rotate(run, keep=2)
    assert _steps(run) == [4, 6, 8]
    assert best(run) == run.checkpoints / "step-000004"
    assert not list(run.checkpoints.glob(".tmp-*"))


def test_of_equally_good_checkpoints_the_newest_is_best(tmp_path: Path) -> None:
    run = _save(tmp_path, 1)
    _save(tmp_path, 2)
    for step in (1, 2):
        run.append_evaluation(step, {"accuracy": {"all": 0.5}})
    assert best(run) == run.checkpoints / "step-000002"


def test_checkpoints_are_found_by_name(tmp_path: Path) -> None:
    run = _save(tmp_path, 2)
    _save(tmp_path, 10)
    assert step_of(find_checkpoint(run, "latest")) == 10
    assert step_of(find_checkpoint(run, "best")) == 10  # without evaluations
    assert step_of(find_checkpoint(run, "2")) == 2
    with pytest.raises(RunError, match=r"no checkpoint `3`; steps with one: 2, 10"):
        find_checkpoint(run, "3")


def test_saving_again_replaces(tmp_path: Path) -> None:
    run = _save(tmp_path, 2)
    _save(tmp_path, 2, FakeStudent(fake_config(tmp_path), skill=0.7))
    assert json.loads((run.checkpoints / "step-000002/model.json").read_text())["skill"] == 0.7


def test_a_failed_save_leaves_the_older_ones_and_says_so(tmp_path: Path) -> None:
    class Full(FakeStudent):
        def save(self, path: Path) -> None:
            (path / "model.json").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    run = _save(tmp_path, 2)
    with pytest.raises(RunError, match=r"step-000004`: .*No space left.*untouched"):
        _save(tmp_path, 4, Full(fake_config(tmp_path)))
    assert _steps(run) == [2]
    assert not list(run.checkpoints.glob(".tmp-*"))


def test_leftovers_are_no_checkpoints_and_are_swept(tmp_path: Path) -> None:
    run = _save(tmp_path, 2)
    (run.checkpoints / ".tmp-step-000004").mkdir()
    (run.checkpoints / "step-000006").mkdir()
    (run.checkpoints / "notes").mkdir()
    assert _steps(run) == [2]
    sweep(run)
    assert not (run.checkpoints / ".tmp-step-000004").exists()
    assert (run.checkpoints / "notes").exists()


def test_a_run_keeps_as_many_as_it_was_told(tmp_path: Path) -> None:
    train(
        fake_config(tmp_path / "run", "run.keep_checkpoints=1", "data.validation=null"),
        build=fake_build,
        quiet=True,
    )
    steps = _steps(RunDirectory(tmp_path / "run"))
    assert steps[-1] == 6 and len(steps) <= 2
