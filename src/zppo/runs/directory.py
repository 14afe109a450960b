"""The run directory: where everything a run does is readable on disk.

    config.yaml                     the resolved config
    engine.yaml                     the cluster engine's own, as resolved from it
    templates/                      the prompt templates in use, as they were when the run started
    metrics.jsonl                   one line a step
    evaluations.jsonl               one line an evaluation, the first one before step 1
    judge.jsonl                     verdicts of the judge, so that a resumed run asks no more often
    rows.npz                        which rows of the data file are trained on (`data_rows.py`)
    skipped.jsonl                   one line a question that could not be read when its step came
    rollouts/step-000001.jsonl.gz   every prompt, candidate, response, reward (`records.py`)
    evaluations/step-000000.jsonl.gz
    accuracies/step-000000.jsonl    an evaluation's accuracy by question, for paired comparisons
    checkpoints/step-000010/        `checkpoint.py`
    media/                          images and frames that had no path, by content, once
    failures/step-000007.jsonl      the batch of a step whose update could not be taken
    tensorboard/                    event files

A line exists whole or not at all, so a run killed at any moment is cut back to its last checkpoint
by `truncate_after` and continues from there.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from zppo.config import Config, dump_config, load_config
from zppo.errors import RunError
from zppo.runs.files import naming, remove_leftovers, write_atomic, write_gzip
from zppo.runs.media import MediaStore
from zppo.runs.records import group_lines, step_lines
from zppo.types import Group, StepResult

CONFIG, METRICS = "config.yaml", "metrics.jsonl"
_STEP = re.compile(r"step-(\d+)")


class RunDirectory:
    """Reads and writes one run. Every method raises `RunError` when the disk refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.media = MediaStore(root)
        self._lock: IO[bytes] | None = None

    # --- opening ----------------------------------------------------------------------------------

    @classmethod
    def create(cls, config: Config) -> RunDirectory:
        """A fresh directory for `config`: `run.dir`, or the next free `runs/<method>-<number>`.

        Raises `RunError` when `run.dir` is already a run, is not empty or cannot be written.
        """
        if config.run.dir is None:
            root = _next_free(Path("runs"), config.method)
        else:
            root = Path(config.run.dir)
            _require_fresh(root)
            with naming(root, "create"):
                root.mkdir(parents=True, exist_ok=True)
        run = cls(root)
        run.lock()
        run.write_config(config)
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run. Raises `RunError` when `path` is none."""
        root = Path(path)
        if not (root / CONFIG).is_file():
            raise RunError(f"`{root}` is not a run: it holds no {CONFIG}.{_runs_nearby(root)}")
        return cls(root)

    def config(self, overrides: Iterable[str] = ()) -> Config:
        """The config the run was started with."""
        return load_config(self.root / CONFIG, list(overrides))

    def write_config(self, config: Config) -> None:
        """Record the resolved config."""
        write_atomic(self.root / CONFIG, dump_config(config).encode("utf-8"))

    def write_engine_config(self, text: str) -> None:
        """Record the student engine's own resolved config, YAML."""
        write_atomic(self.root / "engine.yaml", text.encode("utf-8"))

    def lock(self) -> None:
        """Keep other processes from writing here until this one ends, however it ends."""
        path = self.root / ".lock"
        with naming(path):
            handle = path.open("ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise RunError(f"Another process is writing to `{self.root}`; wait for it.") from None
        except OSError:
            pass  # a file system without locks: the user is on their own
        self._lock = handle

    def unlock(self) -> None:
        """Let others write here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard_if_unused(self) -> None:
        """Remove a run in which nothing has happened yet: what it was to load was at fault."""
        self.unlock()
        for name in (CONFIG, ".lock"):
            (self.root / name).unlink(missing_ok=True)
        if not any(self.root.iterdir()):
            self.root.rmdir()

    # --- places -----------------------------------------------------------------------------------

    @property
    def templates(self) -> Path:
        return self.root / "templates"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    # --- writing ----------------------------------------------------------------------------------

    def append_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`."""
        self._append(METRICS, {"step": step, **metrics})

    def append_evaluation(self, step: int, row: Mapping[str, Any]) -> None:
        """One line of `evaluations.jsonl`."""
        self._append("evaluations.jsonl", {"step": step, **row})

    def append_skip(self, step: int, row: Mapping[str, Any]) -> None:
        """One line of `skipped.jsonl`: a question left out of a step, and why."""
        self._append("skipped.jsonl", {"step": step, **row})

    def append_verdicts(self, step: int, verdicts: Mapping[str, str]) -> None:
        """One line of `judge.jsonl`: what the judge said first in this step or evaluation."""
        self._append("judge.jsonl", {"step": step, "verdicts": verdicts})

    def write_templates(self, sources: Mapping[str, str]) -> None:
        """Keep the prompts of the run, so that a resumed one asks with the same words."""
        for name, text in sources.items():
            write_atomic(self.templates / f"{name}.j2", text.encode("utf-8"))

    def write_rollouts(self, result: StepResult) -> Path:
        """The rollout log of a step."""
        path = self.root / "rollouts" / f"{step_name(result.step)}.jsonl.gz"
        write_gzip(path, step_lines(result, self.media))
        return path

    def write_evaluation(self, step: int, groups: Iterable[Group]) -> Path:
        """The rollouts of an evaluation."""
        path = self.root / "evaluations" / f"{step_name(step)}.jsonl.gz"
        write_gzip(path, group_lines(list(groups), self.media))
        return path

    def write_accuracies(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """What each question of an evaluation was worth, kept even without its responses."""
        path = self.root / "accuracies" / f"{step_name(step)}.jsonl"
        write_atomic(path, b"".join(_json_line(row) for row in rows), sync=False)
        return path

    def write_failure(self, result: StepResult) -> Path:
        """The batch whose update could not be taken, as plain text for a look."""
        path = self.root / "failures" / f"{step_name(result.step)}.jsonl"
        write_atomic(path, "".join(step_lines(result, self.media)).encode("utf-8"))
        return path

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        path = self.root / name
        # Unbuffered: a buffer would write its rest, when closed, behind the line taken back.
        with naming(path), path.open("ab", buffering=0) as file:
            start = file.tell()
            rest = _json_line(row)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    os.truncate(path, start)  # half a line would spoil the next one
                raise

    # --- reading ----------------------------------------------------------------------------------

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`."""
        return _read_lines(self.root / METRICS)

    def evaluations(self) -> list[dict[str, Any]]:
        """Every whole line of `evaluations.jsonl`."""
        return _read_lines(self.root / "evaluations.jsonl")

    def verdicts(self) -> dict[str, str]:
        """All of `judge.jsonl`, oldest first."""
        rows = _read_lines(self.root / "judge.jsonl")
        return {key: name for row in rows for key, name in row["verdicts"].items()}

    # --- resuming ---------------------------------------------------------------------------------

    def truncate_after(self, step: int) -> None:
        """Forget everything later than `step`, and what killed writes left."""
        for name in (METRICS, "evaluations.jsonl", "skipped.jsonl", "judge.jsonl"):
            path = self.root / name
            if path.exists():
                kept = [row for row in _read_lines(path) if row["step"] <= step]
                write_atomic(path, b"".join(_json_line(row) for row in kept))
        for name in ("rollouts", "evaluations", "accuracies", "failures"):
            folder = self.root / name
            remove_leftovers(folder)
            for file in folder.glob("step-*"):
                if step_of(file) > step:
                    with naming(file, "remove"):
                        file.unlink(missing_ok=True)
        for folder in (self.root, self.root / "media", self.templates):
            remove_leftovers(folder)


def step_name(step: int) -> str:
    """`step-000010`: sorts by name as by number."""
    return f"step-{step:06d}"


def step_of(path: Path) -> int:
    """The number in a name made by `step_name`, -1 where there is none."""
    match = _STEP.match(path.name)
    return int(match.group(1)) if match else -1


def _next_free(parent: Path, method: str) -> Path:
    with naming(parent, "create"):
        parent.mkdir(parents=True, exist_ok=True)
        taken = [p.name.rpartition("-")[2] for p in parent.glob(f"{method}-*")]
        number = 1 + max((int(t) for t in taken if t.isdigit()), default=0)
        while True:  # two runs started at once must not share a folder
            try:
                (parent / f"{method}-{number}").mkdir()
                return parent / f"{method}-{number}"
            except FileExistsError:
                number += 1


def _require_fresh(root: Path) -> None:
    if (root / CONFIG).exists():
        raise RunError(
            f"`{root}` is already a run. Go on with it: `zppo resume {root}`; or name another "
            "folder with run.dir=FOLDER."
        )
    if root.exists() and not root.is_dir():
        raise RunError(f"`{root}` is a file, not a folder; name another one with run.dir=FOLDER.")
    if root.is_dir() and any(root.iterdir()):
        raise RunError(f"`{root}` is not empty; name another folder with run.dir=FOLDER.")


def _runs_nearby(root: Path) -> str:
    for parent in (root, Path("runs")):
        runs = sorted(p.parent for p in parent.glob(f"*/{CONFIG}")) if parent.is_dir() else []
        if runs:
            return f" Runs in `{parent}`: {', '.join(r.name for r in runs)}."
    return ""


def _json_line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(_plain(row), allow_nan=False).encode("utf-8") + b"\n"


def _plain(value: Any) -> Any:
    """JSON has neither numpy scalars nor a word for what is not finite: those become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file; a torn last one, left by a kill, is not a line."""
    if not path.exists():
        return []
    with naming(path, "read"):
        lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise RunError(f"`{path}`, line {number} is not JSON; repair or remove it.") from None
    return rows
