"""Runs as a comparison: grouped by what they trained with, refused where they do not compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zppo.algorithm.methods import METHODS
from zppo.config import Config
from zppo.errors import RunError
from zppo.report.compare import (
    Comparison,
    Entry,
    Fate,
    Item,
    Unit,
    choose_baseline,
    differing,
    seed_notes,
)
from zppo.report.reading import Run, read_run
from zppo.runs.checkpoint import latest
from zppo.runs.directory import RunDirectory
from zppo.runs.memory import count_parameters

#: Settings that do not make another experiment of a run: its seed, place, records and speed.
_INCIDENTAL = (
    "seed",
    "run.dir",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.max_teacher_failure_share",
    "run.save_rollouts",
    "run.tensorboard",
    "run.trackers",
    "run.project",
    "evaluation.every",
    "student.device",
    "student.threads",
    "student.micro_batch_tokens",
    "student.sampler_batch_tokens",
    "student.logprob_chunk_tokens",
    "student.gradient_checkpointing",
    "student.share_prompt",
)

#: Settings that must be the same in all runs, or their accuracies answer different questions.
_MATCHED = ("run.steps", "run.prompts_per_step", "student.model", "student.lora", "evaluation")

PHASES = ("plain", "reformulate", "reformulated", "update")


def compare_runs(
    paths: Sequence[str | Path],
    *,
    baseline: str | None = None,
    step: int | None = None,
    unit: Unit = "questions",
    anyway: bool = False,
) -> Comparison:
    """Runs side by side: those that differ in nothing but the seed are one entry.

    `step` picks an evaluation that all runs have; None the one after the last step. Raises
    `RunError` naming every difference that makes the runs no comparison; with `anyway` they
    become notes, and unfinished runs are shown as of their last common evaluation.
    """
    runs = [read_run(path) for path in paths]
    problems = mismatches(runs, step)
    if problems and not anyway:
        raise RunError(
            "These runs cannot be compared:\n"
            + "\n".join(f"  {p}" for p in problems)
            + "\nLeave some out, or add --anyway to see them side by side all the same."
        )
    at = _common_step(runs) if step is None else step
    runs = [replace(r, metrics=tuple(m for m in r.metrics if m["step"] <= at)) for r in runs]
    scores = [_scores(run, at) for run in runs]
    if lacking := _unlike(runs, scores):
        raise RunError("These runs cannot be paired:\n" + "\n".join(f"  {x}" for x in lacking))
    by_root = {run.root: own for run, own in zip(runs, scores, strict=True)}
    entries = tuple(
        _entry(name, some, [by_root[run.root] for run in some])
        for name, some in group_runs(runs).items()
    )
    return Comparison(
        f"After step {at}",
        entries,
        choose_baseline(entries, baseline),
        unit,
        (*problems, *seed_notes(entries)),
    )


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by method and settings, each list in order of seeds.

    A name is the method and every setting in which it differs from others. Settings of the teacher
    are only named among runs that have one. Raises `RunError` for two runs that differ in nothing.
    """
    settings = {run.root: _settings(run.config) for run in runs}
    varying = _varying(list(settings.values()))
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        own = settings[run.root]
        extra = [f"{key}={own[key]}" for key in varying if key in own]
        groups.setdefault(" ".join([run.config.method, *extra]), []).append(run)
    for some in groups.values():
        for one, other in pairwise(some):
            if one.config.seed == other.config.seed:
                raise RunError(
                    f"`{one.root}` and `{other.root}` are the same run twice: same settings, same "
                    f"seed {one.config.seed}. Leave one out."
                )
    methods = list(METHODS)  # in the order of the paper's tables
    return dict(sorted(groups.items(), key=lambda g: (methods.index(g[1][0].config.method), g[0])))


def _varying(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose value is not the same in all. A method without a teacher has no teacher settings
    to differ in."""
    keys = sorted({key for own in settings for key in own} - {"method", "teacher"})
    return [
        key
        for key in keys
        if len({own.get(key) for own in settings if key in own or not _within(key, ("teacher",))})
        > 1
    ]


def mismatches(runs: Sequence[Run], step: int | None = None) -> list[str]:
    """Why the runs cannot be compared, a line a reason, naming what differs and in which runs."""
    problems = [
        f"`{run.root}` is unfinished: {run.steps} of {run.config.run.steps} steps"
        + (", its last evaluation is missing" if run.steps >= run.config.run.steps else "")
        for run in runs
        if step is None and not run.finished
    ]
    places = [str(run.root) for run in runs]
    settings = [_flat(run.config.model_dump(mode="json")) for run in runs]
    for key in sorted({k for s in settings for k in s if _within(k, _MATCHED)}):
        if not _within(key, _INCIDENTAL):
            problems += differing(key, places, [s.get(key) for s in settings])
    return problems + _other_data(runs, places)


def _other_data(runs: Sequence[Run], places: Sequence[str]) -> list[str]:
    """By what the checkpoints say about the questions; without one by the name of the file."""
    files = [f"{r.config.data.train}, limit {r.config.data.limit}" for r in runs]
    hashes = [run.data_hash for run in runs]
    if not all(hashes):
        return differing("the training data", places, files)
    if len(set(hashes)) == 1:
        return []
    named = [f"{file} ({str(h)[:8]})" for file, h in zip(files, hashes, strict=True)]
    return differing("the training data", places, named)


def _common_step(runs: Sequence[Run]) -> int:
    """The last evaluation that all runs have."""
    steps = [{e.step for e in run.evaluations} for run in runs]
    for run, own in zip(runs, steps, strict=True):
        if not own:
            raise RunError(f"`{run.root}` has no evaluation; it needs a data.validation.")
    return max(set.intersection(*steps))  # all have the one before step 1


def _scores(run: Run, step: int) -> dict[Item, float]:
    rows = sorted(run.question_accuracies(step), key=lambda r: (r.family, r.source))
    return {Item(r.family, r.source or r.family, r.question): r.accuracy for r in rows}


def _unlike(runs: Sequence[Run], scores: Sequence[Mapping[Item, float]]) -> list[str]:
    """Runs that were evaluated on other questions than the first one: nothing to pair."""
    first = scores[0].keys()
    return [
        f"`{run.root}` was evaluated on {len(own)} questions, `{runs[0].root}` on {len(first)}; "
        f"{len(own.keys() & first)} of them are the same (data.validation, evaluation.limit)"
        for run, own in zip(runs, scores, strict=True)
        if own.keys() != first
    ]


def _entry(name: str, runs: Sequence[Run], scores: Sequence[Mapping[Item, float]]) -> Entry:
    return Entry(
        name,
        tuple(run.config.seed for run in runs),
        {item: tuple(own[item] for own in scores) for item in scores[0]},
        _graduation(runs),
        _mean([_cost(run) for run in runs]),
        tuple(str(run.root) for run in runs),
    )


def _graduation(runs: Sequence[Run]) -> dict[str, Fate]:
    """Mean over runs of the questions that left the buffer, by accuracy at admission."""
    tables = {
        name: [run.summed(f"buffer/{name}_from") for run in runs]
        for name in ("graduated", "evicted", "admitted")
        if any(f"buffer/{name}_from" in m for run in runs for m in run.metrics)
    }
    bins = sorted({key for some in tables.values() for table in some for key in table})
    return {
        key: Fate(**{n: float(np.mean([t.get(key, 0) for t in s])) for n, s in tables.items()})
        for key in bins
    }


def _cost(run: Run) -> dict[str, float]:
    """Seconds a phase, response tokens, and the FLOPs these tokens stand for: 2N to sample one, 6N
    to learn from one. Prompts are not in it: how long they were is not logged."""
    cost = {f"time/{phase}": run.total(f"time/{phase}") for phase in (*PHASES, "total")}
    cost["tokens"] = run.total("tokens/sampled")
    checkpoint = latest(RunDirectory(run.root))
    parameters = None if checkpoint is None else count_parameters(checkpoint)
    if parameters and run.config.student.lora is None:
        learnt = run.total("update/tokens_with_gradient")
        cost["FLOPs"] = parameters * (2 * cost["tokens"] + 6 * learnt)
    return cost


def _mean(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By name, those that all have."""
    names = [n for n in costs[0] if all(n in c for c in costs)]
    return {name: float(np.mean([c[name] for c in costs])) for name in names}


def _settings(config: Config) -> dict[str, str]:
    """What makes the run the experiment it is."""
    flat = _flat(config.model_dump(mode="json"))
    return {k: str(v) for k, v in flat.items() if not _within(k, _INCIDENTAL)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _within(key: str, sections: Sequence[str]) -> bool:
    return any(key == s or key.startswith(s + ".") for s in sections)
