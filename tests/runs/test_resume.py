"""A run that was killed anywhere resumes to the metrics of one that was not."""

from __future__ import annotations

import functools
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.fakes import FakeStudent, comparable, fake_build, fake_config
from zppo.config import Config
from zppo.errors import ConfigError, RunError
from zppo.runs.build import RunParts
from zppo.runs.checkpoint import checkpoints, latest
from zppo.runs.directory import RunDirectory, step_of
from zppo.runs.train import resume, train

train_fake = functools.partial(train, build=fake_build, quiet=True)
resume_fake = functools.partial(resume, build=fake_build, quiet=True)

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.runs import fakes
from zppo.runs import checkpoint, directory, files
from zppo.runs.train import resume, train

where, moment, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = 0

def deadly(function, after):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

if moment == "in_save":       # the weights are written, the rest is not
    fakes.FakeStudent.save = deadly(fakes.FakeStudent.save, after=True)
if moment == "before_rename":
    checkpoint.sync_tree = deadly(checkpoint.sync_tree, after=True)
if moment == "in_deletion":   # a rotated checkpoint is half gone
    checkpoint.discard = deadly(lambda p: next(p.glob("*.json")).unlink(), after=True)
if moment == "torn_line":
    def torn(self, step, metrics, write=directory.RunDirectory.append_metrics):
        write(self, step, metrics)
        if step == count:
            path = self.root / "metrics.jsonl"
            os.truncate(path, path.stat().st_size - 7)
            os.kill(os.getpid(), signal.SIGKILL)
    directory.RunDirectory.append_metrics = torn
if moment == "in_step":
    fakes.FakeStudent.update = deadly(fakes.FakeStudent.update, after=False)
if moment == "in_rollout_log":
    directory.write_gzip = deadly(directory.write_gzip, after=True)

train(fakes.fake_config(where), build=fakes.fake_build, quiet=True)
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "whole"
    assert train_fake(fake_config(root)).complete
    return root


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("in_save", 1),
        ("in_save", 2),
        ("before_rename", 1),
        ("before_rename", 3),
        ("in_deletion", 1),
        ("torn_line", 1),
        ("torn_line", 5),
        ("in_step", 1),
        ("in_step", 4),
        ("in_rollout_log", 1),
        ("in_rollout_log", 5),
    ],
)
def test_kill_9_then_resume_equals_uninterrupted(
    moment: str, count: int, tmp_path: Path, uninterrupted: Path
) -> None:
    root = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), moment, str(count)], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    result = resume_fake(root)

    assert result.complete and result.steps == 6
    assert comparable(root) == comparable(uninterrupted)
    assert _rollouts(root) == _rollouts(uninterrupted)
    assert (root / "evaluations.jsonl").read_text() == (
        uninterrupted / "evaluations.jsonl"
    ).read_text()
    assert _buffer(root) == _buffer(uninterrupted)
    assert not list(root.rglob(".tmp-*"))


def test_the_run_is_not_trivial(uninterrupted: Path) -> None:
    """The comparison above means something: the buffer fills and drains, prompts of every kind
    are made, the student changes."""
    rows = comparable(uninterrupted)
    assert rows[-1]["buffer/size"] > 0
    assert sum(row["buffer/graduated"] for row in rows) > 0
    assert {"accuracy/plain", "accuracy/bcq", "accuracy/ncq"} <= set(rows[2])
    assert len({row["update/loss"] for row in rows}) == 6


def test_sigterm_finishes_the_step_and_saves(tmp_path: Path, uninterrupted: Path) -> None:
    class Stopped(FakeStudent):
        async def update(self, *args, **kwargs):
            stats = await super().update(*args, **kwargs)
            if self.updates == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return stats

    def build(config: Config) -> RunParts:
        parts = fake_build(config)
        object.__setattr__(parts.step, "student", Stopped(config))
        return parts

    root = tmp_path / "run"
    result = train(fake_config(root), build=build, quiet=True)

    assert not result.complete and result.steps == 3
    assert [step_of(p) for p in checkpoints(RunDirectory(root))] == [2, 3]
    assert resume_fake(root).complete
    assert comparable(root) == comparable(uninterrupted)


def test_sigint_in_an_evaluation_stops_at_once(tmp_path: Path, uninterrupted: Path) -> None:
    class Stopped(FakeStudent):
        async def rollout(self, prompts, n, seed, sampling=None):
            if sampling is not None:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            async for chunk in super().rollout(prompts, n, seed, sampling):
                yield chunk

    def build(config: Config) -> RunParts:
        parts = fake_build(config)
        object.__setattr__(parts.step, "student", Stopped(config))
        return parts

    root = tmp_path / "run"
    # A process started in the background ignores SIGINT; what was there before is put back.
    before = signal.getsignal(signal.SIGINT)
    assert not train(fake_config(root), build=build, quiet=True).complete
    assert signal.getsignal(signal.SIGINT) is before
    assert resume_fake(root).complete
    assert comparable(root) == comparable(uninterrupted)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, uninterrupted: Path) -> None:
    root = tmp_path / "run"
    train_fake(fake_config(root))
    before = {p: p.stat().st_mtime_ns for p in root.rglob("step-*")}
    result = resume_fake(root)
    assert result.complete and result.after == train_result(uninterrupted)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("step-*")} == before


def train_result(root: Path) -> dict[str, float]:
    return RunDirectory(root).evaluations()[-1]["accuracy"]


def test_a_finished_run_can_be_made_longer(tmp_path: Path, uninterrupted: Path) -> None:
    root = tmp_path / "run"
    train_fake(fake_config(root, "run.steps=4"))
    assert resume_fake(root, ["run.steps=6"]).steps == 6
    assert comparable(root) == comparable(uninterrupted)
    assert [row["step"] for row in RunDirectory(root).evaluations()] == [0, 4, 6]
    assert RunDirectory(root).config().run.steps == 6


@pytest.mark.parametrize("override", ["seed=1", "data.train=x.jsonl", "student.lora.rank=4"])
def test_what_makes_another_run_of_it_is_refused(override: str, uninterrupted: Path) -> None:
    with pytest.raises(ConfigError, match="cannot change within a run"):
        resume_fake(uninterrupted, [override])


def test_other_data_is_refused_and_nothing_is_lost(tmp_path: Path, uninterrupted: Path) -> None:
    root = tmp_path / "run"
    train_fake(fake_config(root))

    def build(config: Config) -> RunParts:
        parts = fake_build(config)
        parts.data.train.pop()
        return parts

    with pytest.raises(RunError, match=r"training data is not what .* was trained on"):
        resume(root, ["run.steps=8"], build=build, quiet=True)
    assert comparable(root) == comparable(uninterrupted)
    assert RunDirectory(root).config().run.steps == 6


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, uninterrupted: Path) -> None:
    root = tmp_path / "run"
    train_fake(fake_config(root))
    newest = latest(RunDirectory(root))
    assert newest is not None
    (newest / "model.json").write_text("")
    assert resume_fake(root).complete
    assert comparable(root) == comparable(uninterrupted)


def test_the_words_of_the_run_survive_its_templates_folder(tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "plain.j2").write_text("Solve: {{ question }}")
    root = tmp_path / "run"
    train_fake(fake_config(root, f"algorithm.templates={folder}", "run.steps=2"))
    (folder / "plain.j2").write_text("Changed: {{ question }}")
    resume_fake(root, ["run.steps=4"])
    assert b"Solve: What is" in _rollouts(root)["step-000004.jsonl.gz"]


def test_nan_stops_the_run_dumps_the_batch_and_keeps_the_checkpoint(
    tmp_path: Path, uninterrupted: Path
) -> None:
    root = tmp_path / "run"
    with pytest.raises(RunError) as raised:
        train(fake_config(root), build=functools.partial(fake_build, fail_at_update=4), quiet=True)
    message = str(raised.value)
    assert "Step 4" in message and "nan" in message
    assert "step-000002" in message and "optimizer.lr" in message
    dump = root / "failures" / "step-000004.jsonl"
    assert str(dump) in message and '"advantage"' in dump.read_text()
    assert resume_fake(root).complete
    assert comparable(root) == comparable(uninterrupted)
    assert not dump.exists()


def test_two_processes_cannot_write_to_one_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    train_fake(fake_config(root))
    holder = RunDirectory.open(root)
    holder.lock()
    with pytest.raises(RunError, match="Another process"):
        resume_fake(root)
    holder.unlock()
    assert resume_fake(root).complete


def _rollouts(root: Path) -> dict[str, bytes]:
    files = sorted((root / "rollouts").glob("*.gz"))
    return {p.name: gzip.decompress(p.read_bytes()) for p in files}


def _buffer(root: Path) -> str:
    newest = latest(RunDirectory(root))
    assert newest is not None
    return (newest / "buffer.jsonl").read_text()
