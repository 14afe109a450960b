"""The overlays of a report as SVG files, for documents: title and legend drawn in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from zppo.report.charts import HEIGHT, LEFT, WIDTH, Lines, line_key, svg
from zppo.report.curves import Member, sections
from zppo.report.page import asset
from zppo.report.text import one_line, visible

_TITLE, _ROW = 26, 18
_PER_ROW = 2
_STYLES = ("colours.css", "chart.css")


def drawings(members: Sequence[Member]) -> dict[str, str]:
    """The overlays of `members`, by a name to save them under: section and title."""
    return {
        _slug(f"{section.title} {chart.title}"): drawing(chart)
        for section in sections(members)
        for chart in section.charts
        if isinstance(chart, Lines)
    }


def drawing(chart: Lines) -> str:
    """One chart as a file of its own. It follows the theme of the page that shows it."""
    rows = -(-len(chart.lines) // _PER_ROW)
    top = _TITLE + _ROW * rows
    width = (WIDTH - LEFT) / _PER_ROW
    legend = "".join(
        f'<g transform="translate({LEFT + width * (i % _PER_ROW):.0f} '
        f'{_TITLE + _ROW * (i // _PER_ROW)})">{line_key(line.slot)}'
        f'<text x="28" y="9">{escape(one_line(line.label, 24))}</text></g>'
        for i, line in enumerate(chart.lines)
    )
    plot = svg(chart).replace("<svg ", f'<svg y="{top}" width="{WIDTH}" height="{HEIGHT}" ', 1)
    style = "".join(map(asset, _STYLES))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + HEIGHT}" '
        f'width="{WIDTH}" font-family="system-ui, sans-serif"><style>{style}'
        ".key path { fill: none; stroke-width: 3; } .title { font-weight: 600; font-size: 14px; "
        "fill: var(--ink); }</style>"
        f'<rect width="{WIDTH}" height="{top + HEIGHT}" rx="8" style="fill:var(--card)"/>'
        f'<text class="title" x="10" y="18">{escape(visible(chart.title))}</text>'
        f"{legend}{plot}</svg>\n"
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80]
