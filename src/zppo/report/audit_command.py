"""`zppo audit`: reads runs, prints tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import Progress

from zppo.report.audit import Audit, audit_run
from zppo.report.audit_tables import as_json, tables
from zppo.report.reading import Run, read_run
from zppo.report.tables import markdown, terminal


def audit_runs(
    runs: Sequence[Path], window: int | None, format: Literal["table", "markdown", "json"]
) -> None:
    """Print the audit of `runs`. Raises a `ZppoError`."""
    audits = audit_all([read_run(path) for path in runs], window)
    if format == "json":
        print(json.dumps([as_json(audit) for audit in audits], indent=1))
    elif format == "markdown":
        print("\n".join(markdown(table) for table in tables(audits)))
    else:
        console = Console(highlight=False, emoji=False)
        for table in tables(audits):
            console.print(terminal(table))
            console.print()


def audit_all(runs: Sequence[Run], window: int | None = None) -> list[Audit]:
    """The audits of runs, with a bar on standard error while their logs are read."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        audits: list[Audit] = []
        for run in runs:
            task = bar.add_task(run.name, total=None)

            def move(done: int, total: int, task=task) -> None:
                bar.update(task, completed=done, total=total)

            audits.append(audit_run(run, window, move))
        return audits
