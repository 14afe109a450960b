"""A run directory as data: what tables, reports and audits read. No torch, and nothing is written.

`read_run` loads what is small (config, metrics, accuracies). Rollout logs are read a step at a
time: a run has gigabytes of them. Rows hold what `runs/records.py` wrote; fields that a log of an
older or newer version lacks or adds do not matter, except those every reader needs.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zppo.algorithm.buffer import BufferEntry
from zppo.config import Config
from zppo.errors import RunError
from zppo.runs.checkpoint import BUFFER, latest, read_buffer, read_state
from zppo.runs.directory import RunDirectory, step_name, step_of
from zppo.runs.files import naming
from zppo.types import Candidate, Media, TeacherFailure, TeacherRollout


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A rollout as logged. `advantage` is None in an evaluation, `tokens` the response's length."""

    text: str
    reward: float
    status: str
    extracted: str | None
    tokens: int
    finished: bool
    injected: bool
    advantage: float | None

    @property
    def correct(self) -> bool:
        return self.reward > 0.5


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A prompt with its rollouts as logged; `question` is the question's id.

    The last three are those of a reformulated prompt, empty for a plain one. `media` holds the raw
    rows; `Run.media` turns them into `Media`.
    """

    kind: str
    question: str
    source: str
    gold: str
    prompt: str
    replayed: bool
    accuracy: float
    prefix_tokens: int
    media: tuple[dict[str, Any], ...]
    rollouts: tuple[RolloutRow, ...]
    candidates: tuple[Candidate, ...] = ()
    wrong_answers: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A prompt that was not built, and why."""

    question: str
    kind: str
    reason: str
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepLog:
    """One step's rollout log. `teacher` is by question id."""

    step: int
    groups: tuple[GroupRow, ...]
    skipped: tuple[SkippedRow, ...] = ()
    teacher: Mapping[str, tuple[TeacherRollout, ...]] | None = None
    failures: tuple[TeacherFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """A line of `evaluations.jsonl`: mean reward and number of questions by family and `all`."""

    step: int
    accuracy: Mapping[str, float]
    questions: Mapping[str, int]
    unfinished: float


@dataclass(frozen=True, slots=True)
class QuestionAccuracy:
    """Mean reward of one question in an evaluation."""

    question: str
    family: str
    source: str
    accuracy: float


@dataclass(frozen=True)
class Run:
    """One run. `metrics` are the lines of `metrics.jsonl` as they are (docs/training.md has the
    keys), in order of steps."""

    root: Path
    config: Config
    metrics: tuple[Mapping[str, Any], ...]
    evaluations: tuple[EvaluationRow, ...]

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def finished(self) -> bool:
        """Whether every step was taken and, where there is a validation set, the last one was
        evaluated."""
        if self.steps < self.config.run.steps:
            return False
        return self.config.data.validation is None or any(
            row.step >= self.config.run.steps for row in self.evaluations
        )

    @cached_property
    def data_hash(self) -> str | None:
        """Identifies the training questions in their order; None before the first checkpoint."""
        path = latest(RunDirectory(self.root))
        return None if path is None else read_state(path)["data_sha256"]

    def series(self, key: str) -> dict[int, float]:
        """A metric by step, without the steps that do not have it."""
        return {int(m["step"]): m[key] for m in self.metrics if m.get(key) is not None}

    def total(self, key: str) -> float:
        """Sum of a metric over the run; 0 where no step has it."""
        return sum(self.series(key).values())

    def summed(self, key: str) -> dict[str, int]:
        """Sum over the run of a metric that is itself a table of counts."""
        counts: dict[str, int] = {}
        for row in self.metrics:
            for name, count in (row.get(key) or {}).items():
                counts[name] = counts.get(name, 0) + int(count)
        return dict(sorted(counts.items()))

    # --- logs -------------------------------------------------------------------------------------

    def rollout_steps(self) -> list[int]:
        """Steps whose rollouts were kept (`run.save_rollouts`), ascending."""
        return _steps(self.root / "rollouts")

    def rollouts(self, step: int) -> StepLog:
        """A step's rollout log. Raises `RunError` when it is not there or cannot be read."""
        return read_step_log(self.root / "rollouts" / f"{step_name(step)}.jsonl.gz", step)

    def evaluation_steps(self) -> list[int]:
        """Evaluations whose responses were kept, ascending."""
        return _steps(self.root / "evaluations")

    def evaluation_log(self, step: int) -> StepLog:
        """Every response of an evaluation. Raises `RunError`."""
        return read_step_log(self.root / "evaluations" / f"{step_name(step)}.jsonl.gz", step)

    def question_accuracies(self, step: int) -> tuple[QuestionAccuracy, ...]:
        """Accuracy a question of the evaluation after `step`: from `accuracies/`, or for a run
        that was made before there was such a folder from the evaluation's responses.

        Raises `RunError` where the run has neither.
        """
        path = self.root / "accuracies" / f"{step_name(step)}.jsonl"
        if path.exists():
            return tuple(
                QuestionAccuracy(r["question"], r["family"], r["source"], r["accuracy"])
                for r in _json_lines(path, path.read_bytes())
            )
        if step not in self.evaluation_steps():
            raise RunError(
                f"`{self.root}` has no accuracy by question after step {step}; evaluations with "
                f"one: {', '.join(map(str, self.evaluation_steps())) or 'none'}."
            )
        return tuple(
            QuestionAccuracy(
                g.question, g.source.partition("/")[0] or "other", g.source, g.accuracy
            )
            for g in self.evaluation_log(step).groups
        )

    def media(self, group: GroupRow) -> tuple[Media, ...]:
        """Images and videos of a group. Raises `RunError` when a stored file is gone."""
        store = RunDirectory(self.root).media
        return tuple(store.from_dict(row) for row in group.media)

    def buffer(self) -> tuple[BufferEntry, ...]:
        """The replay buffer in the latest checkpoint, oldest first; empty where there is none."""
        path = latest(RunDirectory(self.root))
        if path is None or not (path / BUFFER).exists():
            return ()
        return read_buffer(path, RunDirectory(self.root).media)


def read_run(path: str | Path) -> Run:
    """The run in the folder `path`. Raises `RunError` when it is none, `ConfigError` when its
    config cannot be read by this version."""
    directory = RunDirectory.open(path)
    return Run(
        directory.root,
        directory.config(),
        tuple(directory.metrics()),
        tuple(
            EvaluationRow(r["step"], r["accuracy"], r["questions"], r.get("unfinished", 0.0))
            for r in directory.evaluations()
        ),
    )


def read_step_log(path: Path, step: int) -> StepLog:
    """A rollout or evaluation log (`.jsonl.gz`). Raises `RunError` naming the file and line."""
    with naming(path, "read"):
        content = path.read_bytes()
    try:
        content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise RunError(f"`{path}` is damaged: it is not whole gzip.") from None
    groups: list[GroupRow] = []
    skipped: list[SkippedRow] = []
    teacher: dict[str, tuple[TeacherRollout, ...]] = {}
    failures: list[TeacherFailure] = []
    for number, row in enumerate(_json_lines(path, content), start=1):
        try:
            match row["type"]:
                case "group":
                    groups.append(_group(row))
                case "skipped":
                    skipped.append(_skipped(row))
                case "teacher":
                    teacher[row["question"]] = tuple(_teacher(r) for r in row["rollouts"])
                case "teacher_failed":
                    failures.append(
                        TeacherFailure(row["question"], row["purpose"], row["reason"], row["count"])
                    )
                case _:
                    pass  # a kind of line that a newer version writes
        except (KeyError, TypeError) as error:
            raise RunError(f"`{path}`, line {number} lacks or misuses {error}.") from None
    return StepLog(step, tuple(groups), tuple(skipped), teacher, tuple(failures))


def _group(row: Mapping[str, Any]) -> GroupRow:
    return GroupRow(
        kind=row["kind"],
        question=row["question"],
        source=row["source"],
        gold=row["gold"],
        prompt=row["prompt"],
        replayed=row["replayed"],
        accuracy=row["accuracy"],
        prefix_tokens=row.get("prefix_tokens", 0),
        media=tuple(row["media"]),
        rollouts=tuple(_rollout(r) for r in row["rollouts"]),
        candidates=tuple(
            Candidate(c["text"], c["original"], c["correct"], c["extracted"])
            for c in row.get("candidates", ())
        ),
        wrong_answers=tuple(row.get("wrong_answers", ())),
        refused=tuple(row.get("refused", ())),
    )


def _rollout(row: Mapping[str, Any]) -> RolloutRow:
    return RolloutRow(
        text=row["text"],
        reward=row["reward"],
        status=row["status"],
        extracted=row["extracted"],
        tokens=row["tokens"],
        finished=row["finished"],
        injected=row["injected"],
        advantage=row.get("advantage"),
    )


def _skipped(row: Mapping[str, Any]) -> SkippedRow:
    return SkippedRow(row["question"], row["kind"], row["reason"], tuple(row.get("refused", ())))


def _teacher(row: Mapping[str, Any]) -> TeacherRollout:
    return TeacherRollout(row["text"], row["correct"], row["extracted"], row.get("turn", 0))


def _json_lines(path: Path, content: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield json.loads(line)
        except ValueError:
            raise RunError(f"`{path}`, line {number} is not JSON; repair or remove it.") from None


def _steps(folder: Path) -> list[int]:
    return sorted(step_of(p) for p in folder.glob("step-*.jsonl.gz") if step_of(p) >= 0)
