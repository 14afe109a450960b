"""The processes of a sweep, with a small program in the place of `zppo`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zppo.runs.sweep import SweepRun, plan, state_of
from zppo.runs.sweep_command import conclude, crowding
from zppo.runs.sweep_run import Outcome, run_sweep

#: Does to a run directory what `zppo train` and `zppo resume` do, without models: a program of its
#: own that starts at once. Seed 9 fails, seed 8 dies.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from zppo.config import dump_config, load_config
verb, target, *overrides = sys.argv[1:]
config = load_config(target if verb == "train" else Path(target) / "config.yaml", overrides)
if config.seed == 9:
    sys.exit("Error: Cannot load model `x`." + chr(10) + "More about it.")
if config.seed == 8:
    os.kill(os.getpid(), signal.SIGKILL)
root = Path(config.run.dir)
root.mkdir(exist_ok=verb == "resume")
(root / "config.yaml").write_text(dump_config(config))
stop = []
signal.signal(signal.SIGINT, lambda *a: stop.append(1))
metrics = root / "metrics.jsonl"
done = metrics.read_text().count(chr(10)) if metrics.exists() else 0
print(verb, "after step", done, flush=True)
for step in range(done + 1, config.run.steps + 1):
    time.sleep(0.05)
    with metrics.open("a") as file:
        file.write(json.dumps({"step": step}) + chr(10))
    if stop:
        print("saved after step", step)
        sys.exit(130)
(root / "evaluations.jsonl").write_text(json.dumps({"step": config.run.steps}) + chr(10))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return [sys.executable, "-u", str(program)]


def steps_of(run: SweepRun) -> int:
    return (run.folder / "metrics.jsonl").read_text().count("\n")


def runs_of(folder: Path, *seeds: int, steps: int = 2) -> list[SweepRun]:
    return plan("lab", folder, seeds=seeds, settings=[f"run.steps={steps}"])


def results(outcomes: list[Outcome]) -> list[str]:
    return [outcome.result for outcome in outcomes]


def test_failures_are_told_and_stop_no_other(tmp_path: Path, command: list[str]) -> None:
    runs = runs_of(tmp_path / "sweep", 9, 8, 0)
    most = 0

    def watch(running: object, ended: object) -> None:
        nonlocal most
        most = max(most, len(running))  # pyright: ignore[reportArgumentType]

    outcomes = run_sweep("lab", runs, jobs=2, command=command, watch=watch)
    assert results(outcomes) == ["failed", "failed", "finished"] and most == 2
    assert outcomes[0].message == "Cannot load model `x`."
    assert outcomes[1].message == "killed by SIGKILL"
    assert [state_of(run) for run in runs][2] == "finished"
    # Again: the finished one is left alone, the failed ones are tried again.
    before = (runs[2].folder / "metrics.jsonl").stat().st_mtime_ns
    again = run_sweep("lab", [runs[0], runs[2]], command=command)
    assert results(again) == ["failed", "skipped"]
    assert (runs[2].folder / "metrics.jsonl").stat().st_mtime_ns == before


def test_an_interrupted_run_goes_on(tmp_path: Path, command: list[str]) -> None:
    (run,) = runs_of(tmp_path, 0, steps=2)
    assert results(run_sweep("lab", [run], command=command)) == ["finished"]
    assert run.log.read_text() == "train after step 0\n"
    (longer,) = runs_of(tmp_path, 0, steps=3)
    assert state_of(longer) == "interrupted"
    assert results(run_sweep("lab", [longer], command=command)) == ["finished"]
    assert longer.log.read_text() == "resume after step 2\n" and steps_of(longer) == 3


def test_an_end_without_the_last_step_is_a_failure(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, 0)
    (outcome,) = run_sweep("lab", [run], command=[sys.executable, "-c", "print('fine')"])
    assert (outcome.result, outcome.message) == ("failed", "fine")
    (outcome,) = run_sweep("lab", [run], command=[sys.executable, "-c", "raise SystemExit(3)"])
    assert outcome.message == "ended with code 3 and said nothing"


def test_a_folder_of_another_run_is_a_failure_with_its_reason(
    tmp_path: Path, command: list[str]
) -> None:
    (run,) = runs_of(tmp_path, 0)
    assert results(run_sweep("lab", [run], command=command)) == ["finished"]
    (other,) = plan("lab", tmp_path, seeds=[0], settings=["optimizer.lr=0.5"])
    (outcome,) = run_sweep("lab", [other], command=command)
    assert outcome.result == "failed" and "another optimizer.lr, run.steps" in outcome.message


SWEEP = """
import sys
from pathlib import Path
from tests.runs.test_sweep_run import runs_of
from zppo.runs.sweep_run import run_sweep
def watch(running, ended):
    print([steps for _, steps in running], flush=True)
found = run_sweep("lab", runs_of(Path(sys.argv[1]), 0, 1, 2, steps=100), jobs=2,
                  command=sys.argv[2:], watch=watch)
print("ENDED", [o.result for o in found], flush=True)
"""


def start_and_wait(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    """A sweep in a process of its own, once both of its runs have taken a step."""
    process = subprocess.Popen(
        [sys.executable, "-uc", SWEEP, str(folder), *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    for line in process.stdout:
        steps = json.loads(line)
        if len(steps) == 2 and all(steps):
            return process
    raise AssertionError("the sweep ended by itself")


def test_an_interrupt_lets_the_runs_save_and_starts_no_more(
    tmp_path: Path, command: list[str]
) -> None:
    process = start_and_wait(tmp_path / "sweep", command)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert out.splitlines()[-1] == "ENDED ['stopped', 'stopped', 'stopped']"
    first, second, third = runs_of(tmp_path / "sweep", 0, 1, 2, steps=100)
    for run in (first, second):
        assert 1 <= steps_of(run) < 100 and state_of(run) == "interrupted"
        assert f"saved after step {steps_of(run)}" in run.log.read_text()  # it was not killed
    assert not third.folder.exists()


def test_a_second_interrupt_leaves_no_process_behind(tmp_path: Path, command: list[str]) -> None:
    process = start_and_wait(tmp_path / "sweep", command)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert out.splitlines()[-1] == "ENDED ['stopped', 'stopped', 'stopped']"
    for run in runs_of(tmp_path / "sweep", 0, 1, steps=100):
        before = steps_of(run)
        time.sleep(0.2)
        assert steps_of(run) == before


def test_the_exit_code_says_how_it_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    one, two = runs_of(tmp_path, 0, 1)
    console = Console(width=200)
    assert conclude([Outcome(one, "finished"), Outcome(two, "skipped")], tmp_path, console) == 0
    assert f"zppo compare {tmp_path}" in capsys.readouterr().out
    failed = Outcome(two, "failed", "Cannot load [model] `x`.")
    assert conclude([Outcome(one, "finished"), failed], tmp_path, console) == 1
    out = capsys.readouterr().out
    assert "1 of 2 runs are finished" in out and "Cannot load [model] `x`." in out
    assert str(two.log) in out
    assert conclude([failed, Outcome(one, "stopped")], tmp_path, console) == 130


def test_too_many_threads_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)))
    runs = runs_of(tmp_path, *range(8))  # the lab sets student.threads=1
    assert crowding(runs, 4) == ""
    assert "8 runs of 1 threads each want 8 cores and there are 4" in crowding(runs, 8)
    assert crowding(runs[:2], 8) == ""
