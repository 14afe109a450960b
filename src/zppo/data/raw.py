"""A row as a file holds it, and the columns of it that we use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zppo.config import ColumnsConfig
from zppo.data.skips import RowProblem
from zppo.errors import DataError


@dataclass(frozen=True, slots=True)
class RawRow:
    """`values` by column, or the problem that kept the row from being read. `number` counts from
    1: the line of a .jsonl file, else the position in the data. `place` finds the row again."""

    number: int
    place: int
    values: dict[str, Any] | None = None
    problem: RowProblem | None = None


def as_row(number: int, place: int, value: Any) -> RawRow:
    """A parsed value as a row; a problem unless it is an object of columns."""
    if isinstance(value, dict):
        return RawRow(number, place, values=value)
    detail = f"expected an object of columns, got {type(value).__name__}"
    return RawRow(number, place, problem=RowProblem("", "not a row", detail))


def cell(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, None where there is none. `a.b` is the field `b` of the column `a`
    unless a column is called just so."""
    if column in row or "." not in column:
        return row.get(column)
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def require_columns(names: Iterable[str], columns: ColumnsConfig, where: str) -> list[str]:
    """The columns we use out of those there are. Raises `DataError` without question or answer."""
    names = list(names)
    missing = missing_columns(names, columns)
    if missing:
        raise DataError(f"{where}: {missing}")
    used = {name for name in columns.model_dump().values() if name}
    used |= {name.partition(".")[0] for name in used}
    return [name for name in names if name in used]


def missing_columns(names: list[str], columns: ColumnsConfig) -> str:
    """What to do about a missing question or answer column; empty when all that is needed is
    there."""
    needed = ["question", "answer"] if columns.messages is None else ["messages"]
    hints: list[str] = []
    for role in needed:
        name = getattr(columns, role)
        if name not in names and name.partition(".")[0] not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            guess = f" (`{near[0]}`?)" if near else ""
            hints.append(f"no column `{name}`; set data.columns.{role}{guess}")
    if hints:
        hints.append(f"columns here: {', '.join(map(repr, names)) or 'none'}")
    return "; ".join(hints)
