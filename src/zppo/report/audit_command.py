"""`zppo audit`: reads runs, prints tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import Progress

from zppo.report.audit import Audit, audit_run, pool
from zppo.report.audit_tables import as_json, tables
from zppo.report.compare_runs import group_runs
from zppo.report.labels import labels
from zppo.report.reading import Run, read_run
from zppo.report.tables import markdown, terminal
from zppo.report.text import visible

#: A file has no edge to wrap tables at; without a terminal rich would assume 80 columns.
_FILE_WIDTH = 160


def audit_runs(
    paths: Sequence[Path],
    window: int | None,
    format: Literal["table", "markdown", "json"],
    *,
    mean: bool = False,
) -> None:
    """Print the audit of the runs in `paths`; with `mean`, those that differ in their seed as one.
    Raises a `ZppoError`."""
    runs = [read_run(path) for path in paths]
    groups = group_runs(runs) if mean else {n: [r] for n, r in zip(labels(runs), runs, strict=True)}
    audits = audit_all(groups, window)
    if format == "json":
        print(json.dumps([as_json(audit) for audit in audits], indent=1))
    elif format == "markdown":
        print("\n".join(markdown(table) for table in tables(audits)))
    else:
        console = Console(highlight=False, emoji=False)
        if not console.is_terminal:
            console.width = _FILE_WIDTH
        for table in tables(audits):
            console.print(terminal(table))
            console.print()


def audit_all(groups: Mapping[str, Sequence[Run]], window: int | None = None) -> list[Audit]:
    """An audit a group, with a bar on standard error while the logs are read."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:

        def one(run: Run) -> Audit:
            task = bar.add_task(visible(run.name).replace("[", "("), total=None)
            return audit_run(
                run, window, lambda done, total: bar.update(task, completed=done, total=total)
            )

        return [pool(name, [one(run) for run in runs]) for name, runs in groups.items()]
