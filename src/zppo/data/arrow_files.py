"""Rows of Parquet and Arrow files, saved data sets and the hub, through the `datasets` library.

It keeps them as Arrow files mapped into memory: the system pages rows in as they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zppo.config import ColumnsConfig
from zppo.data.raw import RawRow, require_columns
from zppo.errors import DataError

BATCH_ROWS = 256  # rows turned into Python values at a time


class ArrowRows:
    """Rows straight from the Arrow table, so that images and videos stay encoded."""

    def __init__(self, where: str, folder: Path, data: Any, columns: ColumnsConfig) -> None:
        """`data` is a `datasets.Dataset`. Raises `DataError` when a needed column is missing."""
        self.where, self.folder = where, folder
        wanted = require_columns(data.column_names, columns, where)
        self._data = data.select_columns(wanted).with_format("arrow")

    def scan(self) -> Iterator[RawRow]:
        place = 0
        for table in self._data.iter(batch_size=BATCH_ROWS):
            for values in table.to_pylist():
                yield RawRow(place + 1, place, values=values)
                place += 1

    def read(self, places: Sequence[int]) -> list[RawRow]:
        places = [int(place) for place in places]
        rows = self._data[places].to_pylist()
        return [RawRow(p + 1, p, values=values) for p, values in zip(places, rows, strict=True)]


def from_parquet(path: Path) -> Any:
    """A Parquet file, converted once into the cache of `datasets` as an Arrow file."""
    import datasets

    return _loaded(f"`{path}`", lambda: datasets.Dataset.from_parquet(str(path)))


def from_arrow(path: Path) -> Any:
    """An Arrow stream file, as `datasets` writes them."""
    import datasets

    return _loaded(f"`{path}`", lambda: datasets.Dataset.from_file(str(path)))


def from_folder(path: Path) -> Any:
    """A folder of `datasets.save_to_disk`."""
    import datasets

    if (path / "dataset_dict.json").exists():
        splits = ", ".join(f"`{p}`" for p in sorted(path.iterdir()) if p.is_dir())
        raise DataError(f"`{path}` holds several splits; name one of {splits}.")
    if not (path / "state.json").exists():
        raise DataError(
            f"`{path}` is a folder, but not one of datasets.save_to_disk; name a data file in it, "
            f"or hf:{path}:SPLIT for a folder laid out like a data set of the hub."
        )
    load = lambda: datasets.Dataset.load_from_disk(str(path))  # noqa: E731
    return _loaded(f"the data set in `{path}`", load)


def from_hub(spec: str, name: str, config: str | None, split: str, limit: int | None) -> Any:
    """A data set of the hub, or of a local folder laid out like one. With a `limit` it is read as
    a stream: no more than that many rows are fetched and kept."""
    import datasets

    options: dict[str, Any] = {"name": config} if config else {}
    try:
        if limit is None:
            return datasets.load_dataset(name, split=split, **options)
        stream: Any = datasets.load_dataset(name, split=split, streaming=True, **options)
        return _spooled(stream.take(limit), f"{spec} {limit}")
    except Exception as error:  # network, hub, builder: whatever it is, the spec cannot be loaded
        raise DataError(f"Cannot load `{spec}`: {type(error).__name__}: {error}") from None


def _spooled(stream: Any, identity: str) -> Any:
    """The rows of a stream as an Arrow file in the cache of `datasets`."""
    import datasets
    import pyarrow as pa
    from datasets import config

    folder = Path(config.HF_DATASETS_CACHE) / "zppo-streams"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.arrow"
    part = path.with_suffix(".part")
    writer = None
    with pa.OSFile(str(part), "wb") as sink:
        for table in stream.with_format("arrow").iter(batch_size=BATCH_ROWS):
            writer = writer or pa.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
        if writer:
            writer.close()
    part.rename(path)
    return datasets.Dataset.from_file(str(path)) if writer else datasets.Dataset.from_list([])


def _loaded(what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # the many ways of a damaged file, each with its own exception
        raise DataError(f"Cannot read {what}: {error}") from None
