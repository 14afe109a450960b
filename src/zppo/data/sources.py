"""Raw rows from wherever the data lies, before anyone asks what is in them.

Formats: .jsonl, .json (a list of rows), .csv, .parquet, a folder of `datasets.save_to_disk`, and
`hf:NAME[:SPLIT]`. Media stay encoded: nothing here decodes an image or a video.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zppo.config import ColumnsConfig
from zppo.data.skips import RowProblem
from zppo.errors import DataError

BATCH_ROWS = 256  # rows held at a time while a columnar file is read


@dataclass(frozen=True, slots=True)
class RawRow:
    """`values` by column, or the problem that kept the row from being read. `number` counts from
    1: the line of a .jsonl file, else the position in the data."""

    number: int
    values: dict[str, Any] | None = None
    problem: RowProblem | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Rows, the name messages use for them, and the folder their relative media paths start at."""

    where: str
    folder: Path
    rows: Iterator[RawRow]


def open_source(spec: str, columns: ColumnsConfig) -> Source:
    """Find the data that `spec` names. Raises `DataError`: no such file, or no format we read."""
    if spec.startswith("hf:"):
        return Source(spec, Path.cwd(), _hub_rows(spec, columns))
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(f"No data file `{spec}`.{_near(path)}")
    if path.is_dir():
        return Source(spec, path, _saved_rows(path, columns))
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"Data file `{spec}`: unsupported suffix; use {', '.join(_READERS)}.")
    return Source(spec, path.parent, reader(path, columns))


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder `{path.parent}` does not exist."
    names = [p.name for p in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean `{path.parent / near[0]}`?" if near else ""


def _jsonl_rows(path: Path, columns: ColumnsConfig) -> Iterator[RawRow]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield _json_row(number, line)
    except OSError as error:
        raise DataError(f"Cannot read `{path}`: {error.strerror}") from None


def _json_row(number: int, line: bytes) -> RawRow:
    try:
        return _as_row(number, json.loads(line.decode("utf-8")))
    except UnicodeDecodeError as error:
        problem = RowProblem("", "not UTF-8", f"byte {error.start} is not UTF-8")
    except (ValueError, RecursionError) as error:
        problem = RowProblem("", "invalid JSON", f"invalid JSON: {error}")
    return RawRow(number, problem=problem)


def _as_row(number: int, value: Any) -> RawRow:
    if isinstance(value, dict):
        return RawRow(number, values=value)
    detail = f"expected an object of columns, got {type(value).__name__}"
    return RawRow(number, problem=RowProblem("", "not a row", detail))


def _json_rows(path: Path, columns: ColumnsConfig) -> Iterator[RawRow]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"Cannot read `{path}`: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"`{path}` is not valid JSON: {error}. One row a line goes into a .jsonl file."
        ) from None
    if not isinstance(rows, list):
        raise DataError(f"`{path}` must hold a list of rows, not a {type(rows).__name__}.")
    for number, row in enumerate(rows, start=1):
        yield _as_row(number, row)


def _csv_rows(path: Path, columns: ColumnsConfig) -> Iterator[RawRow]:
    lists = (columns.options, columns.images, columns.videos)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if table.fieldnames:
                require_columns(table.fieldnames, columns, str(path))
            for number, cells in enumerate(table, start=1):
                yield _csv_row(number, cells, lists)
    except OSError as error:
        raise DataError(f"Cannot read `{path}`: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` is not a readable CSV file: {error}.") from None


def _csv_row(number: int, cells: dict[Any, Any], lists: tuple[str, ...]) -> RawRow:
    """Empty cells are null; a list column may hold a JSON list, or one path."""
    if None in cells:
        detail = "more cells than the header has columns"
        return RawRow(number, problem=RowProblem("", "not a row", detail))
    values: dict[str, Any] = {name: cell or None for name, cell in cells.items()}
    for name in lists:
        cell = values.get(name)
        if cell and cell.lstrip().startswith("["):
            try:
                values[name] = json.loads(cell)
            except (ValueError, RecursionError) as error:
                problem = RowProblem(name, "invalid JSON", f"invalid JSON list: {error}")
                return RawRow(number, problem=problem)
    return RawRow(number, values=values)


def _parquet_rows(path: Path, columns: ColumnsConfig) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = require_columns(file.schema_arrow.names, columns, str(path))
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
            yield from _numbered(batch.to_pylist() for batch in batches)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"Cannot read `{path}`: {error}") from None


def _saved_rows(path: Path, columns: ColumnsConfig) -> Iterator[RawRow]:
    import datasets

    if (path / "dataset_dict.json").exists():
        splits = ", ".join(f"`{p}`" for p in sorted(path.iterdir()) if p.is_dir())
        raise DataError(f"`{path}` holds several splits; name one of {splits}.")
    if not (path / "state.json").exists():
        raise DataError(
            f"`{path}` is a folder, but not one of datasets.save_to_disk; name a data file in it."
        )
    try:
        data = datasets.Dataset.load_from_disk(str(path))
    except Exception as error:  # the many ways of a damaged folder, each with its own exception
        raise DataError(f"Cannot read the data set in `{path}`: {error}") from None
    yield from _dataset_rows(data, columns, str(path))


def _hub_rows(spec: str, columns: ColumnsConfig) -> Iterator[RawRow]:
    """Rows of a data set of the Hugging Face hub, `train` unless the spec names another split."""
    import datasets

    name, _, split = spec.removeprefix("hf:").partition(":")
    try:
        data = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # network, hub, builder: whatever it is, the spec cannot be loaded
        raise DataError(f"Cannot load `{spec}`: {type(error).__name__}: {error}") from None
    yield from _dataset_rows(data, columns, spec)


def _dataset_rows(data: Any, columns: ColumnsConfig, where: str) -> Iterator[RawRow]:
    """Rows straight from the Arrow table, so that images and videos stay encoded."""
    wanted = require_columns(data.column_names, columns, where)
    tables = data.select_columns(wanted).with_format("arrow").iter(batch_size=BATCH_ROWS)
    yield from _numbered(table.to_pylist() for table in tables)


def _numbered(batches: Iterator[list[dict[str, Any]]]) -> Iterator[RawRow]:
    rows = (row for batch in batches for row in batch)
    for number, row in enumerate(rows, start=1):
        yield RawRow(number, values=row)


def require_columns(names: Any, columns: ColumnsConfig, where: str) -> list[str]:
    """The columns we use out of those there are. Raises `DataError` without question or answer."""
    names = list(names)
    missing = missing_columns(names, columns)
    if missing:
        raise DataError(f"{where}: {missing}")
    used = set(columns.model_dump().values())
    return [name for name in names if name in used]


def missing_columns(names: list[str], columns: ColumnsConfig) -> str:
    """What to do about a missing question or answer column; empty when both are there."""
    hints: list[str] = []
    for role in ("question", "answer"):
        name = getattr(columns, role)
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            guess = f" (`{near[0]}`?)" if near else ""
            hints.append(f"no column `{name}`; set data.columns.{role}{guess}")
    if hints:
        hints.append(f"columns here: {', '.join(map(repr, names)) or 'none'}")
    return "; ".join(hints)


_READERS: dict[str, Callable[[Path, ColumnsConfig], Iterator[RawRow]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
