"""The processes of a sweep: at most `jobs` at a time, each a `zppo train` or `zppo resume`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from zppo.errors import ZppoError
from zppo.runs.directory import METRICS
from zppo.runs.files import naming
from zppo.runs.signals import StopRequest
from zppo.runs.sweep import SweepRun, state_of

Result = Literal["skipped", "finished", "failed", "stopped"]

#: How a run is started; tests put another program in its place.
ZPPO = (sys.executable, "-m", "zppo")

_POLL = 0.2
#: What `zppo train` ends with when it was asked to stop and saved.
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of the sweep ended; `message` is what a failed one said last."""

    run: SweepRun
    result: Result
    message: str = ""


@dataclass(slots=True)
class _Job:
    run: SweepRun
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    asked: bool = False


Watch = Callable[[Sequence[tuple[SweepRun, int]], Sequence[Outcome]], None]


def run_sweep(
    config: str | None,
    runs: Sequence[SweepRun],
    *,
    jobs: int = 1,
    command: Sequence[str] = ZPPO,
    watch: Watch = lambda running, ended: None,
) -> list[Outcome]:
    """Bring every run to its end and return how each one ended, in the order given.

    A run that fails does not stop the others. Ctrl-C (or SIGTERM) lets the running ones finish
    their step and save, and starts no more; a second one kills them. `watch` is called a few times
    a second with the running ones and their steps so far, and with those that ended.
    """
    ended: dict[str, Outcome] = {}
    waiting = list(runs)
    running: list[_Job] = []

    try:
        with StopRequest() as stop:
            while waiting or running:
                while waiting and len(running) < jobs and not stop.requested:
                    begun = _begin(waiting.pop(0), config, command)
                    if isinstance(begun, Outcome):
                        ended[begun.run.name] = begun
                    else:
                        running.append(begun)
                if stop.requested:
                    ended |= {run.name: Outcome(run, "stopped") for run in waiting}
                    waiting = []
                    _ask_to_stop(running)
                for job in [j for j in running if j.process.poll() is not None]:
                    running.remove(job)
                    ended[job.run.name] = _end(job)
                watch([(job.run, _steps(job.run)) for job in running], list(ended.values()))
                if running:
                    time.sleep(_POLL)
    except KeyboardInterrupt:
        ended |= {job.run.name: Outcome(job.run, "stopped") for job in running}
        ended |= {run.name: Outcome(run, "stopped") for run in waiting}
    finally:
        for job in running:  # asked twice, or an error of ours: nothing may be left behind
            job.process.kill()
            job.process.wait()
            job.log.close()
    return [ended[run.name] for run in runs]


def _begin(run: SweepRun, config: str | None, command: Sequence[str]) -> _Job | Outcome:
    try:
        state = state_of(run)
        if state == "finished":
            return Outcome(run, "skipped")
        if state == "interrupted":
            steps = f"run.steps={run.config.run.steps}"
            arguments = ["resume", str(run.folder), steps]
        else:
            arguments = ["train", config or "lab", *run.overrides]
        with naming(run.log):
            run.log.parent.mkdir(parents=True, exist_ok=True)
            log = run.log.open("wb")
    except ZppoError as error:
        return Outcome(run, "failed", str(error))
    # A session of its own: Ctrl-C on the terminal reaches the sweep alone, which passes it on.
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},  # a log that can be followed
        start_new_session=True,
    )
    return _Job(run, process, log)


def _ask_to_stop(running: Sequence[_Job]) -> None:
    for job in running:
        if not job.asked:  # a second signal would end it without saving
            job.asked = True
            job.process.send_signal(signal.SIGINT)


def _end(job: _Job) -> Outcome:
    job.log.close()
    code = job.process.returncode
    if code == _INTERRUPTED:
        return Outcome(job.run, "stopped")
    if code == 0 and state_of(job.run) == "finished":
        return Outcome(job.run, "finished")
    return Outcome(job.run, "failed", _last_words(job.run, code))


def _last_words(run: SweepRun, code: int) -> str:
    """The error in a log, or its last line, or how the process died."""
    text = run.log.read_text("utf-8", errors="replace")
    message = text.rpartition("Error: ")[2] if "Error: " in text else text
    lines = [line for line in message.strip().splitlines() if line.strip()]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if not lines:
        return f"ended with code {code} and said nothing"
    return lines[0] if "Error: " in text else lines[-1]


def _steps(run: SweepRun) -> int:
    """Steps a running run has taken: the lines of its metrics."""
    path = run.folder / METRICS
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0  # none yet
