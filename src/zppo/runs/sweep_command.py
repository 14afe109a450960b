"""What `zppo sweep` does and shows: a live table on a terminal, a line a change elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zppo.runs.sweep import SweepRun, plan, state_of, sweep_folder, write_manifest
from zppo.runs.sweep_run import Outcome, run_sweep


def sweep(
    config: str | None,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str],
    grid: Sequence[str],
    folder: Path | None,
    jobs: int,
    dry_run: bool,
) -> int:
    """Run a sweep and return the exit code: 0 when all runs are finished, 1 when one failed, 130
    when it was stopped. Raises `ConfigError` before anything runs."""
    folder = folder or sweep_folder(config)
    runs = plan(config, folder, methods=methods, seeds=seeds, settings=settings, grid=grid)
    console = Console(highlight=False, emoji=False)
    if dry_run:
        for run in runs:
            _say(console, f"{run.name}  {state_of(run)}")
        return 0
    write_manifest(folder, config, runs)
    _say(console, f"{len(runs)} runs, {min(jobs, len(runs))} at a time, into {folder}")
    if crowd := crowding(runs, jobs):
        _say(console, f"note: {crowd}", "yellow")
    with SweepDisplay(runs, console) as display:
        outcomes = run_sweep(config, runs, jobs=jobs, watch=display.update)
    return conclude(outcomes, folder, console)


def crowding(runs: Sequence[SweepRun], jobs: int) -> str:
    """What is wrong with so many jobs on this machine; empty when nothing is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(run.config.student.threads or (cores or 1) for run in runs)
    wanted = min(jobs, len(runs)) * threads
    if cores is None or wanted <= cores:
        return ""
    return (
        f"{min(jobs, len(runs))} runs of {threads} threads each want {wanted} cores and there are "
        f"{cores}; set student.threads=1 or lower --jobs, or all of them get slow."
    )


class SweepDisplay:
    """Shows which runs are on their way. Fits `zppo.runs.sweep_run.Watch`."""

    def __init__(self, runs: Sequence[SweepRun], console: Console) -> None:
        self._total = len(runs)
        self._console = console
        self._live: Live | None = None
        self._running: list[tuple[SweepRun, int]] = []
        self._ended: list[str] = []
        self._began: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, running: Sequence[tuple[SweepRun, int]], ended: Sequence[Outcome]) -> None:
        """The state of the sweep now."""
        for run, _ in running:
            if run.name not in self._began:
                self._began[run.name] = time.monotonic()
                if self._live is None:
                    _say(self._console, f"{run.name}  started")
        self._running = list(running)
        for outcome in ended:
            if outcome.run.name not in self._ended:
                self._ended.append(outcome.run.name)
                _say(self._console, f"{outcome.run.name}  {describe(outcome)}", _color(outcome))

    def _table(self) -> Table:
        table = Table(title=f"{len(self._ended)} of {self._total} runs", title_justify="left")
        table.add_column("running")
        table.add_column("steps", justify="right")
        table.add_column("time", justify="right")
        for run, steps in self._running:
            spent = round(time.monotonic() - self._began[run.name])
            table.add_row(
                Text(run.name),
                f"{steps}/{run.config.run.steps}",
                f"{spent // 60}:{spent % 60:02d}",
            )
        return table


def conclude(outcomes: Sequence[Outcome], folder: Path, console: Console) -> int:
    """The last lines of a sweep, and its exit code."""
    failed = [o for o in outcomes if o.result == "failed"]
    stopped = [o for o in outcomes if o.result == "stopped"]
    done = len(outcomes) - len(failed) - len(stopped)
    _say(console, f"{done} of {len(outcomes)} runs are finished.")
    if failed:
        _say(console, f"{len(failed)} failed:", "red")
        for outcome in failed:
            _say(console, f"  {outcome.run.name}: {outcome.message} (log: {outcome.run.log})")
    if stopped:
        _say(console, f"{len(stopped)} were stopped. The same command goes on with them.")
    if done > 1:
        _say(console, f"Next: zppo compare {folder}")
    return 130 if stopped else 1 if failed else 0


def describe(outcome: Outcome) -> str:
    """How a run ended, in a line."""
    if outcome.result == "skipped":
        return "was finished already"
    return f"{outcome.result}: {outcome.message}" if outcome.message else outcome.result


def _color(outcome: Outcome) -> str:
    return "red" if outcome.result == "failed" else ""


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
