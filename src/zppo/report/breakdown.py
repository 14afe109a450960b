"""What one run's batches, buffer and time are made of, and what became of its questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo.report.charts import Chart, Layer, Stack, Unit, seq, slot_colour
from zppo.report.reading import Run
from zppo.report.series import binned, running

_MOST_VISITS = 8

#: Parts of a step's time, in order.
_PHASES = (
    ("plain", "plain rollouts"),
    ("reformulate", "teacher writes"),
    ("reformulated", "reformulated rollouts"),
    ("update", "update"),
)


def of_run(run: Run) -> tuple[Chart, ...]:
    """What one run's batches, buffer and time are made of; charts without data, or with nothing
    but zeros, are left out."""
    charts = (
        _composition(run),
        _by_accuracy(run, "buffer/composition", "Buffer by accuracy at admission", summed=False),
        _by_accuracy(run, "buffer/admitted_from", "Admitted so far, by accuracy"),
        _by_accuracy(run, "buffer/graduated_from", "Graduated so far, by accuracy at admission"),
        _by_accuracy(run, "buffer/evicted_from", "Evicted so far, by accuracy at admission"),
        _fate(run, "accuracy at admission", "buffer/{}_from", "buffer/composition", _as_percent),
        _fate(run, "visits", "buffer/{}_visits", "buffer/visits", str),
        _phases(run),
        _reasons(run, "teacher/failed/", "Teacher failures by reason"),
        _reasons(run, "zone/compress_refused/", "Compressions refused, by reason"),
        _reasons(run, "zone/hint_refused/", "Hints refused, by reason"),
        _reasons(run, "zone/skipped_reasons/", "Prompts not built, by reason"),
    )
    return tuple(chart for chart in charts if chart is not None and not chart.is_zero)


def _composition(run: Run) -> Stack | None:
    rows = [m for m in run.metrics if "zone/hard" in m]
    if not rows:
        return None
    hard = [float(m["zone/hard"]) for m in rows]
    plain = [float(m.get("groups/plain", 0)) for m in rows]
    layers = [
        ("plain, easy", slot_colour(5), [p - h for p, h in zip(plain, hard, strict=True)]),
        ("plain, hard", slot_colour(0), hard),
    ]
    for slot, kind, label in (
        (1, "bcq", "BCQ"),
        (3, "ncq", "NCQ"),
        (2, "hint", "hint"),
        (4, "prefix", "prefix"),
    ):
        values = [float(m.get(f"groups/{kind}", 0)) for m in rows]
        if any(values):
            layers.append((label, slot_colour(slot), values))
    return _area(
        "Batch composition",
        "Groups in the update of a step. Hard: plain accuracy below the threshold.",
        "count",
        [int(m["step"]) for m in rows],
        layers,
    )


def _by_accuracy(run: Run, key: str, title: str, summed: bool = True) -> Stack | None:
    rows = [m for m in run.metrics if key in m]
    names = sorted({name for m in rows for name in m[key]}, key=float)
    if not names:
        return None
    layers: list[tuple[str, str, list[float]]] = []
    top = max(max(map(float, names)), 1e-9)
    for name in names:
        values = [float(m[key].get(name, 0)) for m in rows]
        if summed:
            values = list(running(dict(enumerate(values))).values())
        layers.append((_as_percent(name), seq(float(name) / top), values))
    steps = [int(m["step"]) for m in rows]
    note = "Questions, by the share of right plain rollouts when they came in."
    return _area(title, note, "count", steps, layers)


def _fate(run: Run, axis: str, left: str, inside: str, name: Callable[[str], str]) -> Stack | None:
    """What became of admitted questions, by a table's keys: graduated, evicted, or still there."""
    now: Mapping[str, int] = next((m[inside] for m in reversed(run.metrics) if inside in m), {})
    tables = (
        ("graduated", slot_colour(2), run.summed(left.format("graduated"))),
        ("evicted", slot_colour(1), run.summed(left.format("evicted"))),
        ("still in the buffer", "var(--rest)", now),
    )
    keys = sorted({key for _, _, table in tables for key in table}, key=float)
    if not keys:
        return None
    shown, more = keys, list[str]()
    if axis == "visits":
        shown = [k for k in keys if int(k) < _MOST_VISITS]
        more = [k for k in keys if int(k) >= _MOST_VISITS]
    layers = tuple(
        Layer(
            label,
            colour,
            (
                *(float(table.get(key, 0)) for key in shown),
                *((float(sum(table.get(key, 0) for key in more)),) if more else ()),
            ),
        )
        for label, colour, table in tables
        if any(table.values())
    )
    names = (*map(name, shown), *((f"{_MOST_VISITS}+",) if more else ()))
    note = (
        "Admitted questions, by how often they came back."
        if axis == "visits"
        else "Admitted questions, by the share of right rollouts when they came in."
    )
    return Stack(f"Fate by {axis}", note, "count", names, layers, axis)


def _phases(run: Run) -> Stack | None:
    rows = [m for m in run.metrics if "time/step" in m]
    if not rows:
        return None
    layers = [
        (label, slot_colour(slot), values)
        for slot, (key, label) in enumerate(_PHASES)
        if any(values := [float(m.get(f"time/{key}", 0.0)) for m in rows])
    ]
    note = "Wall clock. The teacher answers beside the plain rollouts."
    return _area("Time by phase", note, "seconds", [int(m["step"]) for m in rows], layers)


def _reasons(run: Run, prefix: str, title: str) -> Stack | None:
    rows = [_under(m, prefix) for m in run.metrics]
    names = sorted({name for row in rows for name in row})
    if not names:
        return None
    layers = [
        (name, slot_colour(i), [float(row.get(name, 0)) for row in rows])
        for i, name in enumerate(names)
    ]
    return _area(title, "Count in a step.", "count", [int(m["step"]) for m in run.metrics], layers)


def _under(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Numbers by the rest of their key, whether it is written as `prefix/name` or as a table.
    Reasons that differ in a number alone are one."""
    table = metrics.get(prefix.rstrip("/")) or {}
    found = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
    counts: dict[str, float] = {}
    for name, count in {**found, **(table if isinstance(table, Mapping) else {})}.items():
        name = re.sub(r"[0-9]+", "N", name)
        counts[name] = counts.get(name, 0.0) + count
    return counts


def _area(
    title: str,
    note: str,
    unit: Unit,
    steps: Sequence[int],
    layers: Sequence[tuple[str, str, Sequence[float]]],
) -> Stack:
    drawn = [
        (label, colour, binned(list(zip(steps, values, strict=True))))
        for label, colour, values in layers
    ]
    xs = tuple(x for x, _ in drawn[0][2])
    parts = tuple(
        Layer(name, colour, tuple(y for _, y in points)) for name, colour, points in drawn
    )
    return Stack(title, note, unit, xs, parts)


def _as_percent(share: str) -> str:
    return f"{100 * float(share):.4g}%"
