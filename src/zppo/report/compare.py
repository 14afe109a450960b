"""Methods set against each other: accuracy, differences with intervals, graduation, cost.

Here is what a comparison is and the statistics on it. `compare_runs.py` makes one of run
directories, `compare_paper.py` of the paper's figures, `compare_tables.py` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from zppo.errors import ConfigError
from zppo.evaluation.bootstrap import Delta, paired_cluster_bootstrap

Unit = Literal["questions", "benchmarks"]

#: Taken as the baseline where none is named.
BASELINES = ("grpo+replay", "grpo")

#: Stands for all families together.
ALL = "all"


class Item(NamedTuple):
    """What a score is of: a question of a benchmark, or (`question` empty) the whole benchmark."""

    family: str
    benchmark: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of questions admitted to the replay buffer at one accuracy, a run. None where
    the runs (or the paper) do not say."""

    graduated: float | None = None
    evicted: float | None = None
    admitted: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A method with its settings, over its seeds.

    scores      accuracy in [0, 1], one value a seed in the order of `seeds`.
    graduation  by accuracy at admission ("0.000", "0.125", ...), mean over seeds.
    cost        by name (`time/plain` in s, `tokens`, `FLOPs`, `hours`), mean over seeds.
    sources     the folders it was read from.
    """

    name: str
    seeds: tuple[int, ...]
    scores: Mapping[Item, tuple[float, ...]]
    graduation: Mapping[str, Fate] = field(default_factory=dict[str, Fate])
    cost: Mapping[str, float] = field(default_factory=dict[str, float])
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Entries that may be compared. `unit` is what averages are taken over and what the bootstrap
    draws. `notes` say what a reader must know beside the tables."""

    title: str
    entries: tuple[Entry, ...]
    baseline: str
    unit: Unit
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [e.name for e in self.entries]
        if self.baseline not in names:
            raise ConfigError(
                f"There is no `{self.baseline}` to compare with; there are {', '.join(names)}."
            )

    @property
    def base(self) -> Entry:
        return next(e for e in self.entries if e.name == self.baseline)

    @property
    def families(self) -> list[str]:
        """Families of all entries, and `all` where there are several."""
        found = list(dict.fromkeys(i.family for e in self.entries for i in e.scores))
        return [*found, ALL] if len(found) > 1 else found


def choose_baseline(entries: Sequence[Entry], wanted: str | None) -> str:
    """The entry asked for by its name or, where only one entry has it, its method; the plainest
    one there is when none is asked for."""
    by_method: dict[str, list[str]] = {}
    for entry in entries:
        by_method.setdefault(entry.name.partition(" ")[0], []).append(entry.name)
    if wanted is None:
        method = next((m for m in BASELINES if m in by_method), None)
        return by_method[method][0] if method else entries[0].name
    candidates = by_method.get(wanted, [])
    return candidates[0] if len(candidates) == 1 else wanted


def differing(name: str, places: Sequence[str], values: Sequence[Any]) -> list[str]:
    """A line that says which value stands where; none when all are the same."""
    by_value: dict[str, list[str]] = {}
    for place, value in zip(places, values, strict=True):
        by_value.setdefault(str(value), []).append(f"`{place}`")
    if len(by_value) < 2:
        return []
    parts = [f"{value} in {', '.join(some)}" for value, some in by_value.items()]
    return [f"{name} differs: {'; '.join(parts)}"]


def seed_notes(entries: Sequence[Entry]) -> list[str]:
    """A note where the entries do not have the same seeds."""
    if len({e.seeds for e in entries}) == 1:
        return []
    have = "; ".join(f"{e.name}: {', '.join(map(str, e.seeds))}" for e in entries)
    return [f"Seeds differ, so a difference is taken over the shared ones ({have})."]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `count` seeds and its 95% t-interval; no interval from one seed alone."""

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry minus the baseline on one family.

    delta   over questions or benchmarks (bootstrap), on scores averaged over the seeds.
    seeds   over seeds (t-interval of the differences a seed); None where no seed is shared.
    """

    entry: str
    family: str
    delta: Delta
    seeds: Interval | None


def benchmark_scores(entry: Entry) -> dict[Item, tuple[float, ...]]:
    """Accuracy of each benchmark, one a seed: the mean over its questions."""
    grouped: dict[Item, list[tuple[float, ...]]] = {}
    for item, values in entry.scores.items():
        grouped.setdefault(Item(item.family, item.benchmark), []).append(values)
    return {item: tuple(np.mean(rows, axis=0).tolist()) for item, rows in grouped.items()}


def clusters(entry: Entry, family: str, unit: Unit) -> dict[Item, tuple[float, ...]]:
    """The scores that a family's average is taken over."""
    scores = entry.scores if unit == "questions" else benchmark_scores(entry)
    return {i: v for i, v in scores.items() if family in (ALL, i.family)}


def family_accuracy(entry: Entry, family: str, comparison: Comparison) -> Interval | None:
    """Mean over the clusters of a family, over seeds. None where the entry lacks the family, and
    for `all` where it lacks any: the mean of some is not comparable with that of all."""
    own = {item.family for item in entry.scores}
    if not own.issuperset(comparison.families[:-1] if family == ALL else [family]):
        return None
    rows = clusters(entry, family, comparison.unit)
    return t_interval(np.mean(list(rows.values()), axis=0).tolist())


def difference(entry: Entry, base: Entry, family: str, unit: Unit) -> Difference | None:
    """`entry` minus `base`; None where they do not have the same clusters in the family.

    All entries of a comparison are resampled with the same draws: these follow from the number of
    clusters alone.
    """
    ours, theirs = clusters(entry, family, unit), clusters(base, family, unit)
    if not ours or ours.keys() != theirs.keys():
        return None
    shared = [s for s in entry.seeds if s in base.seeds]
    a = _columns(ours, entry.seeds, shared, ours)
    b = _columns(theirs, base.seeds, shared, ours)
    by_seed = (a - b).mean(axis=0).tolist() if shared else []
    return Difference(
        entry.name,
        family,
        paired_cluster_bootstrap(a.mean(axis=1), b.mean(axis=1)),
        t_interval(by_seed) if by_seed else None,
    )


def differences(comparison: Comparison) -> list[Difference]:
    """Every entry against the baseline, family by family, where both were measured on all of it."""
    found = (
        difference(entry, comparison.base, family, comparison.unit)
        for entry in comparison.entries
        if entry.name != comparison.baseline
        for family in comparison.families
    )
    return [d for d in found if d is not None]


def _columns(
    rows: Mapping[Item, tuple[float, ...]],
    seeds: Sequence[int],
    shared: Sequence[int],
    order: Iterable[Item],
) -> np.ndarray:
    """(C, S) scores in a fixed order of clusters: the shared seeds, or all when none is."""
    table = np.array([rows[item] for item in order])
    return table[:, [seeds.index(s) for s in shared]] if shared else table


#: 97.5% points of Student's t for 1 to 30 degrees of freedom.
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
_Z = 1.959964


def t_interval(values: Sequence[float]) -> Interval:
    """Mean and 95% t-interval of independent values (seeds). Raises `ValueError` for none."""
    if not values:
        raise ValueError("there is no value to average")
    mean, count = math.fsum(values) / len(values), len(values)
    if count == 1:
        return Interval(mean, None, None, 1)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1))
    half = t_quantile(count - 1) * spread / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def t_quantile(freedom: int) -> float:
    """The 97.5% point of Student's t. Above 30 degrees of freedom Fisher's expansion, whose error
    is then below 0.0001."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z, n = _Z, freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
