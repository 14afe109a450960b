"""A comparison as tables of text, and as plain data for other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from zppo.report.compare import (
    Comparison,
    Difference,
    Entry,
    Interval,
    benchmark_scores,
    differences,
    family_accuracy,
    t_interval,
)
from zppo.report.tables import Table

MISSING = "-"


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Accuracy by family and by benchmark, differences, graduation and cost, as far as known."""
    tables = [_by_family(comparison), _by_benchmark(comparison)]
    if len(comparison.entries) > 1:
        tables.append(_differences(comparison))
    if any(e.graduation for e in comparison.entries):
        tables.append(_graduation(comparison))
    if any(e.cost for e in comparison.entries):
        tables.append(_cost(comparison))
    return tables


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Everything the tables say, unrounded. Accuracies and differences in [0, 1]."""
    return {
        "title": comparison.title,
        "baseline": comparison.baseline,
        "unit": comparison.unit,
        "notes": list(comparison.notes),
        "entries": [_entry_data(entry, comparison) for entry in comparison.entries],
        "differences": [asdict(d) for d in differences(comparison)],
    }


def _entry_data(entry: Entry, comparison: Comparison) -> dict[str, Any]:
    families = {
        family: asdict(found)
        for family in comparison.families
        if (found := family_accuracy(entry, family, comparison)) is not None
    }
    return {
        "name": entry.name,
        "seeds": list(entry.seeds),
        "sources": list(entry.sources),
        "families": families,
        "benchmarks": [
            {"family": i.family, "benchmark": i.benchmark, "by_seed": list(values)}
            for i, values in benchmark_scores(entry).items()
        ],
        "graduation": {key: asdict(fate) for key, fate in entry.graduation.items()},
        "cost": dict(entry.cost),
    }


# --- accuracy -------------------------------------------------------------------------------------


def _by_family(comparison: Comparison) -> Table:
    rows = [
        (
            entry.name,
            *([str(len(entry.seeds))] if _seeded(comparison) else []),
            *(_cell(family_accuracy(entry, f, comparison)) for f in comparison.families),
        )
        for entry in comparison.entries
    ]
    columns = ("method", *(["seeds"] if _seeded(comparison) else []), *comparison.families)
    note = f"Percent; means over {comparison.unit}."
    return Table(
        f"Accuracy by family. {comparison.title}",
        columns,
        tuple(rows),
        note + _spread_note(comparison),
    )


def _by_benchmark(comparison: Comparison) -> Table:
    by_entry = {e.name: benchmark_scores(e) for e in comparison.entries}
    items = list(dict.fromkeys(item for scores in by_entry.values() for item in scores))
    rows = [
        (
            item.family,
            item.benchmark,
            *(_cell(t_interval(s[item]) if item in s else None) for s in by_entry.values()),
        )
        for item in items
    ]
    return Table(
        f"Accuracy by benchmark. {comparison.title}",
        ("family", "benchmark", *by_entry),
        tuple(rows),
        "Percent." + _spread_note(comparison),
        labels=2,
    )


def _differences(comparison: Comparison) -> Table:
    seeded = any(len(e.seeds) > 1 for e in comparison.entries)
    unit = comparison.unit
    rows = [
        (
            d.entry,
            d.family,
            _points(d.delta.mean),
            f"{_points(d.delta.low)} to {_points(d.delta.high)}",
            f"{d.delta.wins}/{d.delta.ties}/{d.delta.losses}",
            *([_seed_interval(d)] if seeded else []),
        )
        for d in differences(comparison)
    ]
    note = (
        f"Percentage points. 95% over {unit}: paired cluster bootstrap, 10,000 resamples. "
        f"Won/tied/lost: {unit}."
    )
    if seeded:
        note += (
            " Both on scores averaged over seeds. 95% over seeds: t-interval of the differences "
            "of runs with the same seed."
        )
    return Table(
        f"Difference to {comparison.baseline}. {comparison.title}",
        (
            *("method", "family", "difference", f"95% over {unit}", "won/tied/lost"),
            *(["95% over seeds"] if seeded else []),
        ),
        tuple(rows),
        note,
        labels=2,
    )


def _seed_interval(found: Difference) -> str:
    seeds = found.seeds
    if seeds is None or seeds.low is None or seeds.high is None:
        return MISSING
    return f"{_points(seeds.low)} to {_points(seeds.high)} (n={seeds.count})"


def _cell(found: Interval | None) -> str:
    if found is None:
        return MISSING
    mean = f"{100 * found.mean:.1f}"
    return mean if found.high is None else f"{mean} ±{100 * (found.high - found.mean):.1f}"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _seeded(comparison: Comparison) -> bool:
    """Whether the entries are runs; the paper's are of one run each, without a seed."""
    return any(e.sources for e in comparison.entries)


def _spread_note(comparison: Comparison) -> str:
    several = any(len(e.seeds) > 1 for e in comparison.entries)
    return " ±: half of the 95% t-interval over seeds." if several else ""


# --- graduation and cost --------------------------------------------------------------------------


def _graduation(comparison: Comparison) -> Table:
    rows = [
        (
            entry.name,
            f"{float(key):.3g}",
            _count(fate.admitted),
            _count(fate.graduated),
            _count(fate.evicted),
            _share(fate.graduated, fate.admitted),
        )
        for entry in comparison.entries
        for key, fate in entry.graduation.items()
    ]
    return Table(
        f"Replay buffer by accuracy at admission. {comparison.title}",
        ("method", "accuracy at admission", "admitted", "graduated", "evicted", "graduated share"),
        tuple(rows),
        "Questions a run, mean over seeds; the share is of those admitted.",
    )


def _count(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.1f}".removesuffix(".0")


def _share(part: float | None, whole: float | None) -> str:
    return MISSING if part is None or not whole else f"{part / whole:.1%}"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


#: Title and form of each cost, in the order of the columns.
_COSTS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "time/plain": ("rollouts", clock),
    "time/reformulate": ("teacher text", clock),
    "time/reformulated": ("zone rollouts", clock),
    "time/update": ("update", clock),
    "time/total": ("total", clock),
    "hours": ("hours", lambda v: f"{v:g}"),
    "tokens": ("response tokens", lambda v: f"{v:,.0f}"),
    "FLOPs": ("FLOPs", lambda v: f"{v:.2g}"),
}


def _cost(comparison: Comparison) -> Table:
    names = [n for n in _COSTS if any(n in e.cost for e in comparison.entries)]
    rows = [
        (
            entry.name,
            *(_COSTS[n][1](entry.cost[n]) if n in entry.cost else MISSING for n in names),
        )
        for entry in comparison.entries
    ]
    note = ""
    if "tokens" in names:
        note = (
            "A run, mean over seeds. Wall clock by phase: plain rollouts (and the teacher's "
            "answers beside them), compression or hints, rollouts on reformulated prompts, update."
        )
        if "FLOPs" in names:
            note += " FLOPs: the student's response tokens, 2N sampled and 6N learnt from."
    return Table(
        f"Cost. {comparison.title}", ("method", *(_COSTS[n][0] for n in names)), tuple(rows), note
    )
