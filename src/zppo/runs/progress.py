"""What a run shows while it runs: a live line on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from zppo.runs.evaluation import Evaluation
from zppo.runs.result import RunResult
from zppo.types import GroupKind

#: Steps that the time left is estimated from: recent ones, since responses change in length.
_RECENT = 10

_BAR = 20

_PHASES = {
    "plain": "plain rollouts",
    "reformulate": "teacher",
    "reformulated": "reformulated rollouts",
    "update": "update",
    "evaluate": "evaluation",
    "save": "saving",
}


class Display:
    """Shows a run. `quiet` shows nothing but warnings."""

    def __init__(self, steps: int, *, quiet: bool = False, console: Console | None = None) -> None:
        self.steps = steps
        self.quiet = quiet
        self.console = console or Console(highlight=False, emoji=False)
        self._live: Live | None = None
        self._began = time.monotonic()
        self._step = 0
        self._phase = ("", 0, 0)
        self._durations: list[float] = []
        self._shown = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self._live = Live(get_renderable=self._live_line, console=self.console, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, step: int) -> None:
        """Step `step` starts."""
        self._step = step
        self._began = time.monotonic()

    def phase(self, name: str, done: int, total: int) -> None:
        """How far a phase of the step has come. Fits `zppo.algorithm.step.Progress`."""
        self._phase = (name, done, total)
        if self._live is not None:
            self._live.refresh()
        elif not self.quiet and name == "evaluate":
            self._slow_note(done, total)

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Step `step` is done and recorded."""
        self._durations = [*self._durations, metrics.get("time/total", 0.0)][-_RECENT:]
        left = _clock(self._seconds_left(step))
        if not self.quiet:
            line = f"step {step}/{self.steps}  {_summary(metrics)}  left {left}"
            self.console.print(line, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something worth a line."""
        if not self.quiet:
            self.console.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something the user should know, even of a quiet run."""
        self.console.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    def evaluation(self, step: int, accuracy: Mapping[str, float]) -> None:
        """An evaluation is done."""
        if not self.quiet:
            parts = "  ".join(f"{name} {value:.1%}" for name, value in accuracy.items())
            when = f"after step {step}" if step else "before training"
            self.console.print(f"accuracy {when}: {parts}", soft_wrap=True)

    def result(self, result: RunResult) -> None:
        """The last word of a run."""
        if not self.quiet:
            show_result(result, self.console)

    def _seconds_left(self, step: int) -> float:
        if not self._durations:
            return 0.0
        return (self.steps - step) * sum(self._durations) / len(self._durations)

    def _live_line(self) -> Text:
        name, done, total = self._phase
        where = f"step {self._step}/{self.steps}  " if self._step else ""
        head = where + _PHASES.get(name, name)
        if total > 1:
            filled = round(_BAR * done / total)
            head += f"  {'━' * filled}{'─' * (_BAR - filled)} {done}/{total}"
        times = f"  {_clock(time.monotonic() - self._began)}"
        if self._durations:
            times += f", about {_clock(self._seconds_left(self._step - 1))} left"
        return Text(head + times, no_wrap=True, overflow="ellipsis")

    def _slow_note(self, done: int, total: int) -> None:
        """Into a log file: one line a minute, so that a long evaluation does not look dead."""
        now = time.monotonic()
        if done == 0:
            self._shown = now
        elif now - self._shown > 60 and done < total:
            self._shown = now
            self.console.print(f"evaluation {done}/{total}")


def show_result(result: RunResult, console: Console) -> None:
    """Accuracy before and after by family, graduations, where the run lies, what to type next."""
    if result.before and result.after:
        console.print(_accuracy_table(result))
    if result.graduations:
        console.print(f"{result.graduations} questions graduated from the replay buffer.")
    where = result.run_dir
    if not result.complete:
        lines = [f"Stopped after step {result.steps}. Go on with: zppo resume {where}"]
    else:
        lines = [
            f"{result.steps} steps in {_clock(result.seconds)}. The run lies in {where}.",
            "Next:",
            f"  zppo resume {where} run.steps={2 * result.steps}   to train longer",
            f"  zppo eval {where} evaluation.samples=8 evaluation.temperature=0.6"
            "   to evaluate with more samples",
            f"  zppo export {where} FOLDER   to get the trained model as a plain folder",
        ]
    for line in lines:  # not wrapped: a command must be there to copy
        console.print(escape(line), soft_wrap=True)


def _accuracy_table(result: RunResult) -> Table:
    table = Table(title="Accuracy", title_justify="left")
    table.add_column("family")
    for name in ("questions", "before", "after", "change"):
        table.add_column(name, justify="right")
    families = sorted(set(result.after) - {"all"})
    for name in [*families, *(["all"] if len(families) != 1 else [])]:
        before, after = result.before.get(name), result.after[name]
        table.add_row(
            name,
            str(result.questions.get(name, "")),
            "" if before is None else f"{before:.1%}",
            f"{after:.1%}",
            "" if before is None else f"{100 * (after - before):+.1f}",
            style="bold" if name == "all" else "",
        )
    return table


def show_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """The table of `zppo eval`."""
    console = console or Console(highlight=False, emoji=False)
    table = Table("family", title=f"Accuracy at step {evaluation.step}", title_justify="left")
    table.add_column("questions", justify="right")
    table.add_column("accuracy", justify="right")
    for name in sorted(evaluation.accuracy, key=lambda name: (name == "all", name)):
        table.add_row(name, str(evaluation.questions[name]), f"{evaluation.accuracy[name]:.1%}")
    console.print(table)
    if evaluation.unfinished:
        console.print(
            f"{evaluation.unfinished:.1%} of the responses were cut at "
            "evaluation.max_response_tokens."
        )


def _summary(metrics: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for kind in GroupKind:
        value = metrics.get(f"accuracy/{kind}")
        if value is not None:
            label = kind.value if kind is GroupKind.PLAIN else kind.value.upper()
            parts.append(f"{label} {value:.1%}")
    if "buffer/size" in metrics:
        parts.append(f"buffer {metrics['buffer/size']}")
    if "update/loss" in metrics:
        parts.append(f"loss {metrics['update/loss']:+.4f}")
    if "time/tokens_per_second" in metrics:
        parts.append(f"{metrics['time/tokens_per_second']:,.0f} tok/s")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
