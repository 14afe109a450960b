"""A table of text, and the three ways it is shown: on a terminal, in Markdown, in a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich.table import Table as RichTable
from rich.text import Text

from zppo.report.text import visible


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` hold one text a column. The first `labels` columns are names, the rest numbers.
    `note` says below the table how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    labels: int = 1


def terminal(table: Table) -> RichTable:
    """For rich to print. Text is shown as it is, never read as markup."""
    shown = RichTable(
        title=Text(visible(table.title)),
        title_justify="left",
        title_style="bold",
        caption=Text(visible(table.note)) if table.note else None,
        caption_justify="left",
        caption_style="dim",
    )
    for index, name in enumerate(table.columns):
        shown.add_column(Text(name), justify="left" if index < table.labels else "right")
    for row in table.rows:
        shown.add_row(*(Text(visible(cell)) for cell in row))
    return shown


def markdown(table: Table) -> str:
    """A section with a pipe table."""
    rules = ["---" if i < table.labels else "---:" for i in range(len(table.columns))]
    lines = [_pipes(table.columns), _pipes(rules), *map(_pipes, table.rows)]
    parts = [f"### {_plain(table.title)}", "\n".join(lines)]
    return "\n\n".join([*parts, *([_plain(table.note)] if table.note else [])]) + "\n"


def html(table: Table) -> str:
    """A figure that scrolls within itself where it is wider than the screen."""
    head = "".join(
        f'<th scope="col"{" class=name" if i < table.labels else ""}>{escape(name)}</th>'
        for i, name in enumerate(table.columns)
    )
    body = "".join(f"<tr>{_cells(row, table.labels)}</tr>" for row in table.rows)
    note = f"<p class=note>{escape(visible(table.note))}</p>" if table.note else ""
    return (
        f"<figure class=table><figcaption>{escape(visible(table.title))}</figcaption>"
        f'<div class=scroll tabindex=0 role=region aria-label="{escape(visible(table.title))}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}</figure>"
    )


def _cells(row: Sequence[str], labels: int) -> str:
    shown = [escape(visible(cell)) for cell in row]
    named = "".join(f'<th scope="row">{cell}</th>' for cell in shown[:labels])
    return named + "".join(f"<td>{cell}</td>" for cell in shown[labels:])


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no cell ends, no HTML begins."""
    shown = " ".join(visible(text).split())
    for mark in "\\|`*_<>[]":
        shown = shown.replace(mark, "\\" + mark)
    return shown
