"""Which questions, prompts and rollouts `zppo show` looks at, out of a run or a log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from zppo.errors import RunError
from zppo.report.benchmark_log import PREDICTIONS, read_benchmark
from zppo.report.reading import GroupRow, SkippedRow, StepLog, read_run, read_step_log
from zppo.runs.directory import CONFIG, step_of
from zppo.runs.media import MediaStore
from zppo.types import TeacherFailure, TeacherRollout


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; a field that is None asks for nothing.

    `steps` are the first and the last one. `reward` picks rollouts, the others what holds them.
    `search` is looked for in prompts, candidates, answers and responses, in any case.
    """

    steps: tuple[int, int] | None = None
    kind: str | None = None
    reward: int | None = None
    question: str | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A question at one step, with everything that was sampled for it. Groups hold the chosen
    rollouts only; `sizes` and `accuracy` are those of whole groups, in the same order."""

    step: int
    question: str
    groups: tuple[GroupRow, ...]
    sizes: tuple[int, ...]
    teacher: tuple[TeacherRollout, ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    failures: tuple[TeacherFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Logs to look into: `name`, each log's step and how to read it, and where their media lie."""

    name: str
    logs: tuple[tuple[int, Callable[[], StepLog]], ...]
    media: MediaStore


def open_source(path: Path) -> Source:
    """A run's rollout logs; one log (`.jsonl.gz`) of a run or of `zppo eval --output`; or a folder
    with a benchmark's predictions.

    Raises `RunError` when there is nothing to show.
    """
    if (path / PREDICTIONS).is_file():
        return Source(path.name, ((0, partial(read_benchmark, path)),), MediaStore(path))
    if path.is_file():
        inside = path.parent.parent
        root = inside if (inside / CONFIG).is_file() else path.parent
        step = max(step_of(path), 0)
        return Source(path.name, ((step, partial(read_step_log, path, step)),), MediaStore(root))
    run = read_run(path)
    logs = tuple((step, partial(run.rollouts, step)) for step in run.rollout_steps())
    if not logs:
        raise RunError(
            f"`{run.root}` has no rollout logs; they are written with run.save_rollouts=true. "
            "An evaluation can be shown by naming its file in `evaluations/`."
        )
    return Source(run.name, logs, MediaStore(run.root))


def visits(source: Source, wanted: Filter) -> Iterator[Visit]:
    """The questions that fit, in order of steps and of the log, a log in memory at a time.

    Without `steps`, a question or a text is looked for in every step, all else in the last one.
    """
    logs = source.logs
    if wanted.steps is not None:
        first, last = wanted.steps
        logs = tuple((step, read) for step, read in logs if first <= step <= last)
        if not logs:
            have = f"{source.logs[0][0]} to {source.logs[-1][0]}"
            raise RunError(f"`{source.name}` has no log of step {first}-{last}, only {have}.")
    elif wanted.question is None and wanted.search is None:
        logs = logs[-1:]
    for _, read in logs:
        log = read()
        by_question: dict[str, list[GroupRow]] = {}
        for group in log.groups:
            by_question.setdefault(group.question, []).append(group)
        for question, groups in by_question.items():
            if wanted.question in (None, question):
                visit = _visit(log, question, groups, wanted)
                if visit.groups:
                    yield visit


def _visit(log: StepLog, question: str, groups: list[GroupRow], wanted: Filter) -> Visit:
    chosen: list[tuple[GroupRow, int]] = []
    for group in groups:
        if wanted.kind not in (None, group.kind):
            continue
        rollouts = tuple(
            r for r in group.rollouts if wanted.reward is None or r.correct == bool(wanted.reward)
        )
        if rollouts and (wanted.search is None or _holds(group, wanted.search)):
            chosen.append((replace(group, rollouts=rollouts), len(group.rollouts)))
    return Visit(
        log.step,
        question,
        tuple(group for group, _ in chosen),
        tuple(size for _, size in chosen),
        (log.teacher or {}).get(question, ()),
        tuple(row for row in log.skipped if row.question == question),
        tuple(failure for failure in log.failures if failure.question_id == question),
    )


def _holds(group: GroupRow, search: str) -> bool:
    texts = [group.question, group.prompt, group.gold]
    texts += [text for r in group.rollouts for text in (r.text, r.extracted or "")]
    texts += [candidate.original for candidate in group.candidates]
    return any(search.casefold() in text.casefold() for text in texts)
