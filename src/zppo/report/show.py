"""`zppo show`: browse what was asked and answered, on a terminal or as a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console

from zppo.errors import RunError
from zppo.report.selection import Filter, Visit, open_source, visits
from zppo.report.show_html import Written, write_page
from zppo.report.show_terminal import blocks

#: Questions shown unless more are asked for.
ON_TERMINAL, IN_PAGE = 5, 200


def show(
    path: Path,
    wanted: Filter,
    *,
    limit: int | None = None,
    full: bool = False,
    html: Path | None = None,
    max_mb: float = 20.0,
    console: Console | None = None,
) -> None:
    """Print what fits `wanted`, or write it to the page `html`.

    A whole question is shown at `full`, and when one is named. Raises `RunError` when nothing fits.
    """
    source = open_source(path)
    console = console or Console(highlight=False, emoji=False)
    found = _some(visits(source, wanted), source.name)
    if html is not None:
        written = write_page(html, source, found, limit or IN_PAGE, max_mb)
        console.print(_written(html, written), soft_wrap=True, markup=False)
        return
    shown = list(islice(found, limit or ON_TERMINAL))
    more = next(found, None) is not None
    if console.is_terminal:
        os.environ.setdefault("LESS", "-RFX")  # colours, and no pager for what fits
        with console.pager(styles=True):
            _print(shown, more, full or wanted.question is not None, console)
    else:
        _print(shown, more, full or wanted.question is not None, console)


def _print(shown: list[Visit], more: bool, full: bool, console: Console) -> None:
    for visit in shown:
        for block in blocks(visit, full, console.width):
            console.print(block)
    if more:
        console.print("There is more: --limit N, or --step, --kind, --reward, --question, --search")


def _some(found: Iterator[Visit], name: str) -> Iterator[Visit]:
    first = next(found, None)
    if first is None:
        raise RunError(f"Nothing in `{name}` fits; loosen --step, --kind, --reward or --search.")
    yield first
    yield from found


def _written(html: Path, written: Written) -> str:
    line = f"Wrote {html}: {written.visits} questions, {written.size / 1e6:.1f} MB"
    return f"{line}. Left out: {written.left_out}" if written.left_out else line


def parse_steps(text: str | None) -> tuple[int, int] | None:
    """`7` or `5-9` as the first and the last step. Raises `RunError`."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)):
        raise RunError(f"--step {text} is neither a step such as 7 nor a range such as 5-9.")
    return int(first), int(last or first)
