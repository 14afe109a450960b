"""Many runs from one config: methods by seeds by settings, one process a run, resumable.

    FOLDER/manifest.json            which run is what
    FOLDER/<name>/                  a run directory
    FOLDER/logs/<name>.log          what its process printed

A run's folder follows from its settings alone, so the same sweep started again skips what is
finished, goes on with what was interrupted and starts the rest.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from zppo.config import Config, load_config
from zppo.errors import ConfigError, RunError
from zppo.runs.directory import CONFIG, RunDirectory
from zppo.runs.files import naming, write_atomic

MANIFEST = "manifest.json"

State = Literal["new", "interrupted", "finished"]

#: What a sweep decides itself.
_OWN = ("method", "seed", "run.dir")


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep. `overrides` and `config` already hold its method, seed and folder."""

    name: str
    folder: Path
    overrides: tuple[str, ...]
    config: Config

    @property
    def log(self) -> Path:
        return self.folder.parent / "logs" / f"{self.name}.log"


def plan(
    config: str | Path | None,
    folder: Path,
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    settings: Sequence[str] = (),
    grid: Sequence[str] = (),
) -> list[SweepRun]:
    """Every run of the sweep, seeds outermost: a sweep that is cut short has whole comparisons.

    `settings` are `key=value` for all runs, `grid` items `key=value,value,...` of which every
    combination is run. Without `methods` or `seeds` the config's own are taken. Raises
    `ConfigError` before anything runs: each resulting config is validated here.
    """
    own = load_config(config, settings)
    for text in (*settings, *grid):
        if (key := text.partition("=")[0].strip()) in _OWN:
            raise ConfigError(f"`{key}` is set by the sweep itself: --methods, --seeds, --dir.")
    points = _points(grid)
    runs: list[SweepRun] = []
    for seed in seeds or [own.seed]:
        for method in methods or [own.method]:
            for point in points:
                name = _name(method, point, seed)
                overrides = (
                    *(f"method={method}", *settings),
                    *(f"{key}={value}" for key, value in point),
                    *(f"seed={seed}", f"run.dir={folder / name}"),
                )
                runs.append(
                    SweepRun(name, folder / name, overrides, load_config(config, overrides))
                )
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"The sweep holds `{name}` twice; name every value once.")
    return runs


def state_of(run: SweepRun) -> State:
    """How far a run has come. Raises `RunError` where its folder holds a run of other settings."""
    if not (run.folder / CONFIG).is_file():
        return "new"
    directory = RunDirectory.open(run.folder)
    before = directory.config()
    changed = _changed(before, run.config)
    if changed - {"run.steps"}:
        raise RunError(
            f"`{run.folder}` was started with another {', '.join(sorted(changed))}; give this "
            "sweep another folder with --dir."
        )
    steps = [row["step"] for row in directory.metrics()]
    evaluated = [row["step"] for row in directory.evaluations()]
    last = run.config.run.steps
    done = max(steps, default=0) >= last
    measured = run.config.data.validation is None or max(evaluated, default=0) >= last
    return "finished" if done and measured else "interrupted"


def write_manifest(folder: Path, config: str | Path | None, runs: Sequence[SweepRun]) -> None:
    """Add `runs` to the folder's manifest; those of an earlier, smaller sweep stay in it."""
    rows = {row["name"]: row for row in read_manifest(folder)}
    for run in runs:
        rows[run.name] = {
            "name": run.name,
            "method": run.config.method,
            "seed": run.config.seed,
            "config": str(config or "lab"),
            "overrides": list(run.overrides),
        }
    content = json.dumps({"runs": list(rows.values())}, indent=1) + "\n"
    write_atomic(folder / MANIFEST, content.encode("utf-8"))


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The runs of a sweep folder; none where it is not one. Raises `RunError`."""
    path = folder / MANIFEST
    if not path.is_file():
        return []
    with naming(path, "read"):
        text = path.read_text("utf-8")
    try:
        return list(json.loads(text)["runs"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"`{path}` is not the manifest of a sweep; repair or remove it.") from None


def sweep_folder(config: str | Path | None) -> Path:
    """Where a sweep of `config` goes unless told otherwise."""
    return Path("runs") / f"sweep-{Path(config or 'lab').stem}"


def _points(grid: Sequence[str]) -> list[tuple[tuple[str, str], ...]]:
    """Every combination of the grid's values, as (key, value) pairs; one empty one without."""
    axes: list[list[tuple[str, str]]] = []
    for text in grid:
        key, equals, values = text.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise ConfigError(f"Grid `{text}` must look like key.sub=value,value.")
        axes.append([(key.strip(), value) for value in _values(text, values)])
    return list(itertools.product(*axes))


def _values(text: str, values: str) -> Iterator[str]:
    try:
        parsed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        raise ConfigError(f"Grid `{text}`: the values are not valid YAML.") from None
    for value in parsed:
        yield value if isinstance(value, str) else json.dumps(value)


def _name(method: str, point: Sequence[tuple[str, str]], seed: int) -> str:
    """`zppo-algorithm.hard_threshold=0.25-seed0`, with what a file name cannot hold replaced."""
    parts = [method, *(f"{key}={value}" for key, value in point), f"seed{seed}"]
    return re.sub(r"[^\w.=+-]", "_", "-".join(parts))


def _changed(before: Config, now: Config) -> set[str]:
    return set(_differing(before.model_dump(mode="json"), now.model_dump(mode="json")))


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(a.keys() | b.keys()):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differing(one, other, f"{prefix}{key}.")
        elif one != other:
            yield prefix + key
