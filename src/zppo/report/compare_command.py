"""What `zppo compare` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from zppo.errors import RunError
from zppo.report.compare import Comparison, Unit
from zppo.report.compare_paper import compare_paper
from zppo.report.compare_results import compare_results, is_result
from zppo.report.compare_runs import compare_runs
from zppo.report.compare_tables import comparison_data, comparison_tables
from zppo.report.paper import SCALES
from zppo.report.tables import Table, markdown, terminal
from zppo.report.tables_latex import latex
from zppo.runs.directory import CONFIG
from zppo.runs.sweep import read_manifest

Format = Literal["table", "markdown", "latex", "json"]


def compare(
    runs: Sequence[Path],
    *,
    paper: bool,
    scales: Sequence[str],
    baseline: str | None,
    step: int | None,
    unit: Unit | None,
    anyway: bool,
    format: Format,
) -> None:
    """Compare runs, or with `paper` the paper's figures at `scales`. Raises a `ZppoError`."""
    if paper == bool(runs):
        raise RunError("Name the runs to compare, or --paper for the paper's own figures.")
    folders, absent = spread_out(runs)
    results = [path for path in folders if is_result(path)]
    if results and len(results) < len(folders):
        other = next(path for path in folders if path not in results)
        raise RunError(f"`{results[0]}` is an evaluation on benchmarks and `{other}` is a run.")
    if not folders and not paper:
        raise RunError("None of these runs was started.")
    if paper:
        comparisons = [compare_paper(scale, baseline) for scale in scales or SCALES]
    elif results:
        comparisons = [
            compare_results(results, baseline=baseline, unit=unit or "benchmarks", anyway=anyway)
        ]
    else:
        comparisons = [
            compare_runs(
                folders, baseline=baseline, step=step, unit=unit or "questions", anyway=anyway
            )
        ]
    show([replace(c, notes=(*absent, *c.notes)) for c in comparisons], format)


def spread_out(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Runs as they are, the folder of a sweep as the runs in it; and a note for each run of a
    sweep that never came to be one."""
    found: list[Path] = []
    notes: list[str] = []
    for path in paths:
        rows = read_manifest(path)
        found += [] if rows else [path]
        for run in (path / row["name"] for row in rows):
            if (run / CONFIG).is_file():
                found.append(run)
            else:
                notes.append(f"`{run}` is not in it: it was not started, or failed at once.")
    return found, notes


def show(comparisons: Sequence[Comparison], format: Format, console: Console | None = None) -> None:
    """Print comparisons one after the other; notes before the tables they are about."""
    console = console or Console(highlight=False, emoji=False)
    if format == "json":
        _print(console, json.dumps([comparison_data(c) for c in comparisons], indent=1))
        return
    for comparison in comparisons:
        for note in comparison.notes:
            if format == "table":
                console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
            else:
                _print(console, {"markdown": f"> {note}\n", "latex": f"% {note}"}[format])
        for table in comparison_tables(comparison):
            show_table(table, format, console)


def show_table(table: Table, format: Format, console: Console) -> None:
    """Print one table as text."""
    if format == "table":
        console.print(terminal(table))
    else:
        _print(console, latex(table) if format == "latex" else markdown(table))


def _print(console: Console, text: str) -> None:
    """As it is: not wrapped, not read as markup."""
    console.print(text, soft_wrap=True, markup=False)
