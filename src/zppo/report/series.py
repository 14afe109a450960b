"""Series of points before they are drawn: sums, bins, means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Points a curve is drawn with at most; more steps are averaged in bins.
MOST_POINTS = 240

Point = tuple[float, float]


def running(series: Mapping[int, float]) -> dict[int, float]:
    """The sum so far, by step."""
    total, found = 0.0, dict[int, float]()
    for step, value in series.items():
        total += value
        found[step] = total
    return found


def binned(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most `MOST_POINTS`: means over neighbours."""
    size = -(-len(points) // MOST_POINTS)
    chunks = [points[i : i + size] for i in range(0, len(points), size)] if points else []
    return tuple(
        (sum(x for x, _ in chunk) / len(chunk), sum(y for _, y in chunk) / len(chunk))
        for chunk in chunks
    )


def moving_mean(points: Sequence[Point], half: int) -> tuple[Point, ...]:
    """Centred, over `half` neighbours on each side, fewer at the ends."""
    found: list[Point] = []
    for i, (x, _) in enumerate(points):
        near = points[max(i - half, 0) : i + half + 1]
        found.append((x, sum(y for _, y in near) / len(near)))
    return tuple(found)
