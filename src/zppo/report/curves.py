"""From runs to the charts of method section 10.

Runs overlay: each is one curve, or all seeds of a method are one, as the mean with a band from the
lowest to the highest. What is a whole made of parts (a batch, the buffer, a step's time) is drawn
for a run at a time, in `breakdown.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zppo.report.audit import Audit, Window
from zppo.report.charts import Chart, Line, Lines
from zppo.report.metric_list import (
    ACCURACY,
    BUFFER,
    COST,
    CUMULATIVE,
    CUMULATIVE_COST,
    LEARNING,
    TEACHER,
    Metric,
)
from zppo.report.reading import Run
from zppo.report.series import Point, binned, moving_mean, running

#: Shorter curves are not smoothed; longer ones by a mean over this share of them.
_SMOOTH_FROM, _SMOOTH_SHARE = 24, 0.06


@dataclass(frozen=True, slots=True)
class Member:
    """What one colour stands for: a run, or the runs of one method."""

    label: str
    slot: int
    runs: tuple[Run, ...]
    audit: Audit | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Charts that belong together. `text` says what holds for all of them."""

    title: str
    charts: tuple[Chart, ...]
    text: str = ""

    def without_zeros(self) -> Section:
        """Charts that are 0 at every step become a line of the text."""
        zero = [chart.title for chart in self.charts if chart.is_zero]
        shown = tuple(chart for chart in self.charts if not chart.is_zero)
        line = f"Zero at every step: {', '.join(zero)}." if zero else ""
        return Section(self.title, shown, f"{self.text} {line}".strip())


def sections(members: Sequence[Member]) -> list[Section]:
    """Every overlay of `members`; a section or chart that no run has data for is left out."""
    listed = [
        Section(
            "Validation accuracy",
            _evaluations(members),
            "By family of question. These axes do not begin at 0.",
        ),
        Section("Training accuracy", _metrics(ACCURACY, members)),
        Section("Learning signal", _metrics(LEARNING, members)),
        Section(
            "Replay buffer",
            (*_metrics(BUFFER, members), *_cumulative(CUMULATIVE, members), *_from_zero(members)),
        ),
        Section("Hard questions and the teacher", _metrics(TEACHER, members)),
        Section("Cost", (*_metrics(COST, members), *_cumulative(CUMULATIVE_COST, members))),
        Section("Candidates", _audits(members), "Shares by windows of steps; the tables follow."),
    ]
    return [section.without_zeros() for section in listed if section.charts]


def rest(members: Sequence[Member]) -> tuple[Chart, ...]:
    """Every other number in the metrics, under its own key."""
    shown = {m.key for m in (*ACCURACY, *LEARNING, *BUFFER, *CUMULATIVE, *TEACHER, *COST)}
    keys = {
        key
        for member in members
        for run in member.runs
        for row in run.metrics
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    found = (Metric(key, key, "number", "") for key in sorted(keys - shown - {"step"}))
    return _metrics(found, members)


def _metrics(metrics: Iterable[Metric], members: Sequence[Member]) -> tuple[Chart, ...]:
    found: list[Chart] = []
    for metric in metrics:
        lines = _overlay(members, lambda run, m=metric: run.series(m.key), metric.smooth)
        if lines:
            found.append(Lines(metric.title, metric.note, metric.unit, lines))
    return tuple(found)


def _cumulative(metrics: Iterable[Metric], members: Sequence[Member]) -> tuple[Chart, ...]:
    found: list[Chart] = []
    for metric in metrics:
        lines = _overlay(members, lambda run, m=metric: running(run.series(m.key)), smooth=False)
        if lines:
            found.append(Lines(metric.title, metric.note, metric.unit, lines))
    return tuple(found)


def _from_zero(members: Sequence[Member]) -> tuple[Chart, ...]:
    """Graduations of questions that no rollout solved at admission: where the methods differ."""

    def series(run: Run) -> dict[int, float]:
        rows = {int(m["step"]): m.get("buffer/graduated_from") for m in run.metrics}
        zero = {
            step: float(sum(n for key, n in table.items() if float(key) == 0.0))
            for step, table in rows.items()
            if table is not None
        }
        return running(zero)

    lines = _overlay(members, series, smooth=False)
    note = "Questions that no rollout solved when they came in."
    return (Lines("Graduated from 0%", note, "count", lines),) if lines else ()


def _evaluations(members: Sequence[Member]) -> tuple[Chart, ...]:
    families = {
        family
        for member in members
        for run in member.runs
        for row in run.evaluations
        for family in row.accuracy
    }
    found: list[Chart] = []
    for family in sorted(families, key=lambda name: (name != "all", name)):

        def series(run: Run, family: str = family) -> dict[int, float]:
            rows = run.evaluations
            return {row.step: row.accuracy[family] for row in rows if family in row.accuracy}

        lines = _overlay(members, series, smooth=False)
        if lines:
            found.append(Lines(f"Accuracy, {family}", "", "share", lines, dots=True, close=True))
    return tuple(found)


_AUDITED: tuple[tuple[str, str, Callable[[Window], tuple[int, int]]], ...] = (
    (
        "BCQ, right: the right candidate's answer",
        "Of the right BCQ rollouts.",
        lambda w: (w.bcq_right.positive, w.bcq_right.total),
    ),
    (
        "BCQ, wrong: the wrong candidate's answer",
        "Of the wrong BCQ rollouts: the student believed the wrong candidate.",
        lambda w: (w.bcq_wrong.negative, w.bcq_wrong.total),
    ),
    (
        "BCQ accuracy where plain is all wrong",
        "Questions with no right plain rollout in the step.",
        lambda w: _hard(w, "bcq"),
    ),
    (
        "NCQ: repeats a listed wrong answer",
        "Of all NCQ rollouts.",
        lambda w: (w.ncq.negative, w.ncq.total),
    ),
    (
        "NCQ: finds the teacher's answer",
        "Of all NCQ rollouts; it was never shown.",
        lambda w: (w.ncq.positive, w.ncq.total),
    ),
    (
        "NCQ accuracy where plain is all wrong",
        "Questions with no right plain rollout in the step.",
        lambda w: _hard(w, "ncq"),
    ),
)


def _hard(window: Window, kind: str) -> tuple[int, int]:
    groups = window.kinds.get(kind)
    return (groups.hard_right, groups.hard_rollouts) if groups else (0, 0)


def _audits(members: Sequence[Member]) -> tuple[Chart, ...]:
    found: list[Chart] = []
    for title, note, count in _AUDITED:
        lines: list[Line] = []
        for index, member in enumerate(members):
            windows = member.audit.windows if member.audit else ()
            counted = {(w.first + w.last) // 2: count(w) for w in windows}
            shares = {step: n / total for step, (n, total) in counted.items() if total}
            lines += _line(member, index, [shares], smooth=False)
        if lines:
            found.append(Lines(title, note, "share", tuple(lines), dots=True))
    return tuple(found)


def _overlay(
    members: Sequence[Member], series: Callable[[Run], Mapping[int, float]], smooth: bool
) -> tuple[Line, ...]:
    return tuple(
        line
        for index, member in enumerate(members)
        for line in _line(member, index, [series(run) for run in member.runs], smooth)
    )


def _line(
    member: Member, index: int, series: Sequence[Mapping[int, float]], smooth: bool
) -> list[Line]:
    """A member's curve: none where no run has a value, the mean and a band where several do."""
    series = [one for one in series if one]
    if not series:
        return []
    steps = sorted({step for one in series for step in one})
    values = [[one[step] for one in series if step in one] for step in steps]
    points = binned([(s, sum(v) / len(v)) for s, v in zip(steps, values, strict=True)])
    long = smooth and len(points) >= _SMOOTH_FROM
    half = round(len(points) * _SMOOTH_SHARE) if long else 0
    band: tuple[Point, ...] = ()
    if len(series) > 1:
        lows = binned([(s, min(v)) for s, v in zip(steps, values, strict=True)])
        highs = binned([(s, max(v)) for s, v in zip(steps, values, strict=True)])
        edges = zip(moving_mean(lows, half), moving_mean(highs, half), strict=True)
        band = tuple((low, high) for (_, low), (_, high) in edges)
    smoothed = moving_mean(points, half) if long else ()
    return [Line(member.label, member.slot, points, smoothed, band, index)]
