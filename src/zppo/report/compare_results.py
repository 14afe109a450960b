"""Evaluations on benchmarks as a comparison: folders that hold a `result.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zppo.errors import RunError
from zppo.evaluation.files import read_lines
from zppo.evaluation.results import RESULT, SCORES, read_result
from zppo.report.compare import (
    Comparison,
    Entry,
    Item,
    Unit,
    choose_baseline,
    differing,
    seed_notes,
)
from zppo.runs.directory import CONFIG, RunDirectory

#: Settings of an evaluation that say who was evaluated, not how.
_WHO = ("model", "engine", "seed")
#: What of a benchmark's entry must agree, or the scores are of two different tests.
_SAME = ("version", "n", "samples", "limit", "judge", "judge_prompts", "scorer")


@dataclass(frozen=True, slots=True)
class Result:
    """One evaluation folder. `name` and `seed` are those of the run whose checkpoint it is of;
    otherwise the folder's name, and 0."""

    root: Path
    name: str
    seed: int
    data: Mapping[str, Any]

    @property
    def benchmarks(self) -> Mapping[str, Mapping[str, Any]]:
        return {k: e for k, e in self.data["benchmarks"].items() if e["score"] is not None}


def is_result(path: Path) -> bool:
    """Whether `path` is the folder of an evaluation on benchmarks."""
    return (path / RESULT).is_file()


def compare_results(
    paths: Sequence[Path],
    *,
    baseline: str | None = None,
    unit: Unit = "benchmarks",
    anyway: bool = False,
) -> Comparison:
    """Evaluations side by side. Those of one method's runs with several seeds are one entry.

    Raises `RunError` naming every difference that makes them no comparison; with `anyway` these
    become notes, and benchmarks that not all have are left out.
    """
    results = [_read(path) for path in paths]
    problems = _mismatches(results)
    if problems and not anyway:
        raise RunError(
            "These evaluations cannot be compared:\n"
            + "\n".join(f"  {p}" for p in problems)
            + "\nLeave some out, or add --anyway to see what they share side by side."
        )
    shared = [k for k in results[0].benchmarks if all(k in r.benchmarks for r in results)]
    if not shared:
        raise RunError("These evaluations have no benchmark in common.")
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.name, []).append(result)
    entries = tuple(_entry(name, some, shared, unit) for name, some in groups.items())
    return Comparison(
        "Benchmarks",
        entries,
        choose_baseline(entries, baseline),
        unit,
        (*problems, *seed_notes(entries)),
    )


def _read(path: Path) -> Result:
    data = read_result(path)
    if data is None:
        raise RunError(f"`{path}` holds no {RESULT}: it is not an evaluation on benchmarks.")
    run = _run_of(str(data["model"]["name"]))
    if run is None:
        return Result(path, path.name, 0, data)
    config = run.config()
    return Result(path, config.method, config.seed, data)


def _run_of(model: str) -> RunDirectory | None:
    """The run that a model is a checkpoint of: RUN/checkpoints/step-000200."""
    parents = Path(model).parents
    if len(parents) < 2 or not (parents[1] / CONFIG).is_file():
        return None
    return RunDirectory(parents[1])


def _mismatches(results: Sequence[Result]) -> list[str]:
    places = [str(r.root) for r in results]
    problems: list[str] = []
    settings = [_settings(r) for r in results]
    for key in sorted({k for s in settings for k in s}):
        problems += differing(key, places, [s.get(key) for s in settings])
    for key in dict.fromkeys(k for r in results for k in r.benchmarks):
        having = [r for r in results if key in r.benchmarks]
        lacking = [f"`{r.root}`" for r in results if key not in r.benchmarks]
        if lacking:
            problems.append(f"{key} is missing in {', '.join(lacking)}")
        for name in _SAME:
            values = [json.dumps(r.benchmarks[key].get(name)) for r in having]
            problems += differing(f"{name} of {key}", [str(r.root) for r in having], values)
        digests = [r.benchmarks[key].get("data", {}).get("digest") for r in having]
        problems += differing(f"the data of {key}", [str(r.root) for r in having], digests)
        problems += [
            f"{key} is incomplete in `{r.root}`: {e['errors']} errors, {e['missing']} missing"
            for r in having
            if not (e := r.benchmarks[key])["complete"]
        ]
    return problems


def _settings(result: Result) -> dict[str, Any]:
    return {k: v for k, v in result.data.get("settings", {}).items() if k not in _WHO}


def _entry(name: str, results: Sequence[Result], shared: Sequence[str], unit: Unit) -> Entry:
    results = sorted(results, key=lambda r: r.seed)
    seeds = [r.seed for r in results]
    if len(set(seeds)) < len(seeds):
        places = ", ".join(f"`{r.root}`" for r in results)
        raise RunError(f"{places} are evaluations of {name} with the same seed; leave some out.")
    scores = [_scores(r, shared, unit) for r in results]
    common = [item for item in scores[0] if all(item in own for own in scores)]
    return Entry(
        name,
        tuple(seeds),
        {item: tuple(own[item] for own in scores) for item in common},
        sources=tuple(str(r.root) for r in results),
    )


def _scores(result: Result, shared: Sequence[str], unit: Unit) -> dict[Item, float]:
    """The benchmark's own score, which need not be a mean (worst of variants, points); for the
    unit `questions` the mean score of each cluster of its questions."""
    found: dict[Item, float] = {}
    for key in shared:
        entry = result.benchmarks[key]
        if unit == "benchmarks":
            found[Item(entry["family"], key)] = float(entry["score"])
            continue
        clusters: dict[str, list[float]] = {}
        for row in read_lines(result.root / key / SCORES):
            clusters.setdefault(str(row["cluster"]), []).append(float(row["score"]))
        found |= {
            Item(entry["family"], key, cluster): float(np.mean(values))
            for cluster, values in clusters.items()
        }
    return found
