"""The same numbers, sent elsewhere: TensorBoard by default, W&B, Trackio or MLflow by option.

`metrics.jsonl` stays the record. A tracker that fails while the run is on is dropped with a
warning: no run is lost to its dashboard.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from zppo.config import Config
from zppo.errors import ConfigError
from zppo.runs.directory import RunDirectory
from zppo.runs.files import write_atomic

_IDS = "trackers.json"


class Tracker(Protocol):
    """One destination of scalars."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def close(self, *, complete: bool) -> None: ...


class Trackers:
    """All trackers of a run. `start` is the step it goes on from, 0 for a new run.

    Raises `ConfigError` when a package is missing or its service refuses to start.
    """

    def __init__(
        self, config: Config, run: RunDirectory, start: int, warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        self._open: dict[str, Tracker] = {}
        for name in require_packages(config):
            self._open[name] = _opened(name, config, run, start)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Send every number of `metrics`, nested ones as `outer/inner`."""
        scalars = dict(flatten(metrics))
        for name in list(self._open):
            self._guard(name, lambda tracker: tracker.log(step, scalars))

    def close(self, *, complete: bool) -> None:
        """Send what is left."""
        for name in list(self._open):
            self._guard(name, lambda tracker: tracker.close(complete=complete))
        self._open.clear()

    def _guard(self, name: str, call: Callable[[Tracker], None]) -> None:
        try:
            call(self._open[name])
        except Exception as error:  # whatever a service throws, training goes on
            self._warn(f"{name} failed and is left out from now on: {error}")
            with suppress(Exception):
                self._open.pop(name).close(complete=False)


def require_packages(config: Config) -> list[str]:
    """The trackers of a run, in order. Raises `ConfigError` for those that are not installed."""
    names = (["tensorboard"] if config.run.tensorboard else []) + list(config.run.trackers)
    names = list(dict.fromkeys(names))
    if missing := [name for name in names if find_spec(name) is None]:
        raise ConfigError(
            f"Not installed: {', '.join(missing)}. Install with `pip install 'zppo[track]'`, or "
            "leave it out of run.trackers."
        )
    return names


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a nested dict by path; text and empty values are left out."""
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)


def _opened(name: str, config: Config, run: RunDirectory, start: int) -> Tracker:
    try:
        return _TRACKERS[name](config, run, start)
    except Exception as error:
        raise ConfigError(
            f"Tracker `{name}` does not start: {error}. Leave it out of run.trackers, or repair it."
        ) from error


class _TensorBoard:
    def __init__(self, config: Config, run: RunDirectory, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run wrote beyond its last checkpoint is purged from the curves.
        self.writer: Any = SummaryWriter(str(run.tensorboard), purge_step=start + 1)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        for key, value in scalars.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def close(self, *, complete: bool) -> None:
        self.writer.close()


class _WandB:
    def __init__(self, config: Config, run: RunDirectory, start: int) -> None:
        wandb: Any = import_module("wandb")
        identity = _saved_id(run, "wandb") or uuid.uuid4().hex[:8]
        _save_id(run, "wandb", identity)
        self.run = wandb.init(
            project=config.run.project,
            name=run.root.name,
            id=identity,
            dir=str(run.root),
            config=config.model_dump(mode="json"),
            resume="allow",
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=step)

    def close(self, *, complete: bool) -> None:
        self.run.finish()


class _Trackio:
    def __init__(self, config: Config, run: RunDirectory, start: int) -> None:
        trackio: Any = import_module("trackio")
        self.run = trackio.init(
            project=config.run.project,
            name=run.root.name,
            config=config.model_dump(mode="json"),
            resume="allow",
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=step)

    def close(self, *, complete: bool) -> None:
        self.run.finish()


class _MLflow:
    def __init__(self, config: Config, run: RunDirectory, start: int) -> None:
        self.mlflow: Any = import_module("mlflow")
        self.mlflow.set_experiment(config.run.project)
        started = self.mlflow.start_run(run_id=_saved_id(run, "mlflow"), run_name=run.root.name)
        if _saved_id(run, "mlflow") is None:
            _save_id(run, "mlflow", started.info.run_id)
            flat = _parameters(config.model_dump(mode="json"))
            self.mlflow.log_params(dict(flat))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        # Its file store keeps `a/b` as a file, so there cannot be an `a/b/c` beside it.
        named = {
            section + ("/" + rest.replace("/", ".") if rest else ""): value
            for key, value in scalars.items()
            for section, _, rest in [key.partition("/")]
        }
        self.mlflow.log_metrics(named, step=step)

    def close(self, *, complete: bool) -> None:
        self.mlflow.end_run("FINISHED" if complete else "KILLED")


_TRACKERS: dict[str, Callable[[Config, RunDirectory, int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "trackio": _Trackio,
    "mlflow": _MLflow,
}


def _parameters(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _parameters(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _saved_id(run: RunDirectory, name: str) -> str | None:
    path = run.root / _IDS
    return json.loads(path.read_text(encoding="utf-8")).get(name) if path.exists() else None


def _save_id(run: RunDirectory, name: str, identity: str) -> None:
    path = run.root / _IDS
    ids = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_atomic(path, json.dumps(ids | {name: identity}).encode("utf-8"))
