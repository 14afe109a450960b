"""Charts as SVG text, drawn here so that a page shows them without a script.

A chart is plain data; `svg` draws it and `hover` gives what the page's script needs to show values
under the pointer. Colours are CSS variables, so one drawing serves light and dark: `--cN` for the
N-th of several equals, `seq(share)` for a place on an ordered scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, Literal

from zppo.report.series import Point
from zppo.report.text import visible

Unit = Literal["share", "count", "number", "seconds"]
WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 24
_COLOURS = 8
_DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True, slots=True)
class Line:
    """A curve. `slot` picks colour and dashes; `smooth` is drawn over faint `points`, and `band`
    holds the lowest and highest value at each point. `run` is the run that the legend hides."""

    label: str
    slot: int
    points: tuple[Point, ...]
    smooth: tuple[Point, ...] = ()
    band: tuple[Point, ...] = ()
    run: int | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over steps. `dots` marks single points, for what is measured now and then; `close`
    lets the axis begin where the data do."""

    title: str
    note: str
    unit: Unit
    lines: tuple[Line, ...]
    dots: bool = False
    close: bool = False

    @property
    def is_zero(self) -> bool:
        """Whether every value is 0."""
        return not any(y for line in self.lines for _, y in line.points)


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of a whole; `colour` is a CSS colour."""

    label: str
    colour: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers on top of each other: an area over steps, or a bar for each of named `xs`."""

    title: str
    note: str
    unit: Unit
    xs: tuple[float, ...] | tuple[str, ...]
    layers: tuple[Layer, ...]
    axis: str = "step"

    @property
    def is_zero(self) -> bool:
        """Whether every value is 0."""
        return not any(value for layer in self.layers for value in layer.values)


Chart = Lines | Stack


def slot_colour(slot: int) -> str:
    """The colour of the N-th of several equals."""
    return f"var(--c{slot % _COLOURS})"


def line_key(slot: int) -> str:
    """A short piece of the curve, for legends."""
    style = f"stroke:{slot_colour(slot)};stroke-dasharray:{_dash(slot) or 'none'}"
    return (
        '<svg class="key" width="22" height="10" aria-hidden="true">'
        f'<path d="M0 5H22" style="{style}"/></svg>'
    )


def _dash(slot: int) -> str:
    return _DASHES[slot // _COLOURS % len(_DASHES)]


def seq(share: float) -> str:
    """A colour on an ordered scale, `share` in [0, 1]."""
    return f"color-mix(in oklab, var(--seq1) {100 * share:.0f}%, var(--seq0))"


def svg(chart: Chart) -> str:
    """The drawing, with a title for screen readers."""
    body = _lines(chart) if isinstance(chart, Lines) else _stack(chart)
    label = escape(visible(f"{chart.title}. {summary(chart)}"))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" aria-label="{label}">'
        f"{body}</svg>"
    )


def summary(chart: Chart) -> str:
    """The last values, as words."""
    if isinstance(chart, Lines):
        ends = [f"{li.label}: {say(li.points[-1][1], chart.unit)}" for li in chart.lines]
    else:
        ends = [f"{la.label}: {say(la.values[-1], chart.unit)}" for la in chart.layers]
    return "Last values: " + ", ".join(ends)


def hover(chart: Chart) -> dict[str, Any]:
    """For the script: where the plot lies, and the value of every series at every x (null where it
    has none)."""
    if isinstance(chart, Lines):
        xs = sorted({x for line in chart.lines for x, _ in line.points})
        series = [_at(line, xs) for line in chart.lines]
        (low, high), (top, bottom) = _x_range(xs), _y_range(chart)
    else:
        named = bool(chart.xs) and isinstance(chart.xs[0], str)
        xs = list(range(len(chart.xs))) if named else [float(x) for x in chart.xs]
        low, high = (-0.5, len(xs) - 0.5) if named else _x_range(xs)
        series = [_hovered(la.label, la.colour, la.values, None) for la in reversed(chart.layers)]
        top, bottom = None, None
    axis = "step" if isinstance(chart, Lines) else chart.axis
    return {
        "x": [low, high],
        "y": None if top is None else [bottom, top],
        "plot": [LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM],
        "unit": chart.unit,
        "axis": axis,
        "names": None if isinstance(chart, Lines) or axis == "step" else [*map(_named, chart.xs)],
        "xs": [_round(x) for x in xs],
        "series": series,
    }


def _at(line: Line, xs: Sequence[float]) -> dict[str, Any]:
    points = dict(line.points)
    return _hovered(line.label, slot_colour(line.slot), [points.get(x) for x in xs], line.run)


def _hovered(
    label: str, colour: str, values: Sequence[float | None], run: int | None
) -> dict[str, Any]:
    rounded = [None if v is None else _round(v) for v in values]
    return {"n": visible(label), "c": colour, "r": run, "p": rounded}


def _named(x: float | str) -> str:
    return visible(str(x))


def say(value: float, unit: Unit) -> str:
    """A value in words a reader wants: 12.5%, 1,234, 0.0123, 1:05."""
    if unit == "share":
        return f"{100 * value:.1f}%"
    if unit == "count":
        return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:,.1f}"
    if unit == "seconds" and value >= 60:
        minutes, seconds = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return f"{value:.3g}" + (" s" if unit == "seconds" else "")


# -- lines ---------------------------------------------------------------------------------------


def _lines(chart: Lines) -> str:
    xs = [x for line in chart.lines for x, _ in line.points]
    across = _scale(_x_range(xs), (LEFT, WIDTH - RIGHT))
    low, high = _y_range(chart)[::-1]
    up = _scale((low, high), (HEIGHT - BOTTOM, TOP))
    parts = [_grid(low, high, up, chart.unit), _steps(_x_range(xs), across)]
    parts += [_curve(line, across, up, chart.dots) for line in chart.lines]
    return "".join(parts)


def _curve(
    line: Line, across: Callable[[float], float], up: Callable[[float], float], dots: bool
) -> str:
    dash = _dash(line.slot)
    colour = f"stroke:{slot_colour(line.slot)}"
    style = f"{colour};stroke-dasharray:{dash}" if dash else colour
    parts: list[str] = []
    if line.band:
        edge = [(x, high) for (x, _), (_, high) in zip(line.points, line.band, strict=True)]
        back = [(x, low) for (x, _), (low, _) in zip(line.points, line.band, strict=True)]
        path = _path([*edge, *back[::-1]], across, up)
        parts.append(f'<path class="band" d="{path}Z" style="fill:{slot_colour(line.slot)}"/>')
    kind = ("raw banded" if line.band else "raw") if line.smooth else "line"
    path = _path(line.points, across, up)
    parts.append(f'<path class="{kind}" d="{path}" style="{colour if line.smooth else style}"/>')
    if line.smooth:
        path = _path(line.smooth, across, up)
        parts.append(f'<path class="line smooth" d="{path}" style="{style}"/>')
    if dots or len(line.points) == 1:
        fill = slot_colour(line.slot)
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" style="fill:{fill}"/>'
            for x, y in line.points
        ]
    run = "" if line.run is None else f' data-run="{line.run}"'
    return f"<g{run}>{''.join(parts)}</g>"


def _path(
    points: Sequence[Point], across: Callable[[float], float], up: Callable[[float], float]
) -> str:
    """Relative moves in tenths of a unit: half the length of absolute ones."""
    tenths = [(round(10 * across(x)), round(10 * up(y))) for x, y in points]
    moves = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(tenths)]
    start = f"M{_tenth(tenths[0][0])} {_tenth(tenths[0][1])}"
    return start + "".join(f"l{_tenth(x)} {_tenth(y)}" for x, y in moves)


def _tenth(value: int) -> str:
    return f"{value / 10:g}"


def _y_range(chart: Lines) -> tuple[float, float]:
    """(highest, lowest) of the axis. Shares and counts start at 0, for their size matters."""
    values = [y for line in chart.lines for _, y in line.points]
    values += [v for line in chart.lines for pair in line.band for v in pair]
    low, high = min(values), max(values)
    if chart.unit in ("share", "count", "seconds") and not chart.close:
        low = min(low, 0.0)
        if chart.unit == "share" and high > 0.5:
            high = max(high, 1.0)
    if high == low:
        high, low = (low + (abs(low) or 1.0), low) if low >= 0 else (0.0, 2 * low)
    ticks = _ticks(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return math.ceil(high / step - 1e-9) * step, math.floor(low / step + 1e-9) * step


# -- stacks --------------------------------------------------------------------------------------


def _stack(chart: Stack) -> str:
    totals = [sum(layer.values[i] for layer in chart.layers) for i in range(len(chart.xs))]
    high = max([*totals, 0.0]) or 1.0
    ticks = _ticks(0.0, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high
    high = math.ceil(high / step - 1e-9) * step
    up = _scale((0.0, high), (HEIGHT - BOTTOM, TOP))
    parts = [_grid(0.0, high, up, chart.unit)]
    below = [0.0] * len(chart.xs)
    named = bool(chart.xs) and isinstance(chart.xs[0], str)
    numbers = [float(x) for x in chart.xs] if not named else []
    across = _scale(_x_range(numbers) if numbers else (0, 1), (LEFT, WIDTH - RIGHT))
    for layer in chart.layers:
        above = [b + v for b, v in zip(below, layer.values, strict=True)]
        if named:
            parts.append(_bars(layer, below, above, up))
        else:
            edge = list(zip(numbers, above, strict=True))
            back = list(zip(numbers, below, strict=True))[::-1]
            if len(numbers) == 1:  # a single step is as wide as the plot
                edge = [(numbers[0] - 1, above[0]), (numbers[0] + 1, above[0])]
                back = [(numbers[0] + 1, below[0]), (numbers[0] - 1, below[0])]
            path = _path([*edge, *back], across, up)
            parts.append(f'<path class="area" d="{path}Z" style="fill:{layer.colour}"/>')
        below = above
    if named:
        parts.append(_names([visible(str(x)) for x in chart.xs]))
    else:
        parts.append(_steps(_x_range(numbers), across))
    return "".join(parts)


def _bars(
    layer: Layer, below: Sequence[float], above: Sequence[float], up: Callable[[float], float]
) -> str:
    place = (WIDTH - LEFT - RIGHT) / len(below)
    width = min(0.7 * place, 48)
    parts = [
        f'<rect x="{LEFT + place * (i + 0.5) - width / 2:.1f}" y="{up(top):.1f}" '
        f'width="{width:.1f}" height="{up(low) - up(top):.1f}" style="fill:{layer.colour}"/>'
        for i, (low, top) in enumerate(zip(below, above, strict=True))
        if top > low
    ]
    return "".join(parts)


def _names(names: Sequence[str]) -> str:
    place = (WIDTH - LEFT - RIGHT) / max(len(names), 1)
    return "".join(
        f'<text class="x" x="{LEFT + place * (i + 0.5):.1f}" y="{HEIGHT - 8}">{escape(name)}</text>'
        for i, name in enumerate(names)
    )


# -- axes ----------------------------------------------------------------------------------------


def _x_range(xs: Sequence[float]) -> Point:
    low, high = min(xs, default=0.0), max(xs, default=1.0)
    return (low, high) if high > low else (low - 1, high + 1)


def _scale(source: Point, target: Point) -> Callable[[float], float]:
    (low, high), (start, end) = source, target
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about `most` of them."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _grid(low: float, high: float, up: Callable[[float], float], unit: Unit) -> str:
    parts: list[str] = []
    ticks = _ticks(low, high)
    for value in ticks:
        y = up(value)
        kind = "zero" if abs(value) < 1e-12 else "grid"
        parts.append(f'<path class="{kind}" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{_tick(value, ticks, unit)}</text>'
        )
    return "".join(parts)


def _tick(value: float, ticks: Sequence[float], unit: Unit) -> str:
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    if unit == "share":
        return f"{100 * value:.{_digits(100 * step)}f}%"
    size = max(abs(t) for t in ticks)
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if letter == "k" else limit  # 10k, but 9000
            return f"{value / scale:g}{letter}" if value else "0"
    if 0 < size < 1e-3:
        return f"{value:.0e}" if value else "0"
    return f"{value:.{_digits(step)}f}" if value else "0"


def _digits(step: float) -> int:
    """Decimals that tell multiples of `step` apart."""
    return next((d for d in range(6) if abs(round(step, d) - step) < 1e-3 * step), 6)


def _steps(span: Point, across: Callable[[float], float]) -> str:
    low, high = span
    ticks = [t for t in _ticks(low, high, 6) if float(t).is_integer()] or [round(low), round(high)]
    return "".join(
        f'<text class="x" x="{min(across(t), WIDTH - 12):.1f}" y="{HEIGHT - 8}">{t:g}</text>'
        for t in ticks
    )


def _round(value: float) -> float:
    rounded = float(f"{value:.5g}")
    return int(rounded) if rounded.is_integer() else rounded
