"""Raw rows from wherever the data lies, before anyone asks what is in them.

A `Source` is read twice: once from start to end, to see which rows can be used, and then row by
row, in any order, by the `place` the first reading gave each of them. So nothing but places is held
in memory. Media stay encoded: nothing here decodes an image or a video.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zppo.config import ColumnsConfig
from zppo.data import arrow_files, text_files
from zppo.data.raw import RawRow
from zppo.errors import DataError


class Source(Protocol):
    """Rows of one data set, the name messages use for it, and the folder where relative media
    paths start."""

    where: str
    folder: Path

    def scan(self) -> Iterator[RawRow]:
        """All rows in order. Raises `DataError` when the file itself cannot be read."""
        ...

    def read(self, places: Sequence[int]) -> list[RawRow]:
        """The rows at `places`, as `scan` gave them but for their number. Safe in any thread.
        Raises `DataError` when the file has changed or gone since."""
        ...


@dataclass(frozen=True, slots=True)
class HubSpec:
    """`hf:NAME[:SPLIT]` or `hf:NAME:CONFIG:SPLIT`; NAME is a hub id or a local folder laid out
    like one."""

    name: str
    config: str | None
    split: str

    @classmethod
    def parse(cls, spec: str) -> HubSpec:
        name, *rest = spec.removeprefix("hf:").split(":")
        # A slice of a split may hold a colon: test[:10].
        if rest and "[" in ":".join(rest):
            head, _, slice_ = ":".join(rest).partition("[")
            rest = head.split(":")
            rest[-1] += "[" + slice_
        if not name or len(rest) > 2:
            raise DataError(f"`{spec}`: write hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT.")
        config = rest[0] if len(rest) == 2 else None
        return cls(name, config or None, (rest[-1] if rest else "") or "train")


def open_source(spec: str, columns: ColumnsConfig, stream_rows: int | None = None) -> Source:
    """Find the data that `spec` names. With `stream_rows` a data set of the hub is read as a
    stream, and only that many rows are fetched. Raises `DataError`: no such file, or no format we
    read."""
    if spec.startswith("hf:"):
        hub = HubSpec.parse(spec)
        data = arrow_files.from_hub(spec, hub.name, hub.config, hub.split, stream_rows)
        return arrow_files.ArrowRows(spec, Path.cwd(), data, columns)
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(f"No data file `{spec}`.{_near(path)}")
    if path.is_dir():
        return arrow_files.ArrowRows(spec, path, arrow_files.from_folder(path), columns)
    opened = _FORMATS.get(path.suffix.lower())
    if opened is None:
        raise DataError(f"Data file `{spec}`: unsupported suffix; use {', '.join(_FORMATS)}.")
    return opened(path, columns)


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder `{path.parent}` does not exist."
    names = [p.name for p in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean `{path.parent / near[0]}`?" if near else ""


def _parquet(path: Path, columns: ColumnsConfig) -> Source:
    return arrow_files.ArrowRows(str(path), path.parent, arrow_files.from_parquet(path), columns)


def _arrow(path: Path, columns: ColumnsConfig) -> Source:
    return arrow_files.ArrowRows(str(path), path.parent, arrow_files.from_arrow(path), columns)


_FORMATS: dict[str, Callable[[Path, ColumnsConfig], Any]] = {
    ".jsonl": text_files.JsonLines,
    ".json": text_files.JsonList,
    ".csv": text_files.CsvRows,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
