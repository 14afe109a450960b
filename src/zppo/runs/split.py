"""`zppo data split`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zppo.config import Config
from zppo.data import load_questions
from zppo.data.split import TRAIN, VALIDATION, split_questions


def split_data(
    spec: str, folder: Path, config: Config, share: float, console: Console | None = None
) -> None:
    """Write both sides of the data that `spec` names and print what is on them. Raises
    `DataError`."""
    console = console or Console(highlight=False, emoji=False)
    found = load_questions(spec, config.data)
    console.print(escape(f"{spec}: {found.report.summary()}"), soft_wrap=True)
    result = split_questions(found.questions, folder, share, config.seed)
    table = Table("source", title_justify="left")
    table.add_column(TRAIN, justify="right")
    table.add_column(VALIDATION, justify="right")
    for source in sorted({*result.train, *result.validation}):
        counts = (str(side[source]) for side in (result.train, result.validation))
        table.add_row(escape(source) or "(none)", *counts)
    table.add_row("all", str(result.train.total()), str(result.validation.total()))
    console.print(table)
