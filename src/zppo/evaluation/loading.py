"""The items of a benchmark: from the hub, from a folder the user has, or from a file of their own.

Nothing is trusted to be as it was when the declaration was written: columns are looked for before
a row is read, and the message says which are gone and what is there instead.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zppo.config import ColumnsConfig
from zppo.data.skips import RowProblem
from zppo.data.sources import open_source
from zppo.errors import DataError
from zppo.evaluation.benchmark import Benchmark, Item, Source
from zppo.evaluation.readers import PART, ROOT
from zppo.evaluation.rows import RowReader
from zppo.evaluation.videos import VideoFinder

_BATCH_ROWS = 64  # rows of a columnar file in memory at once; they hold images
_SUFFIXES = (".jsonl", ".parquet", ".json", ".csv")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The usable items of a benchmark, in the order of the data; `total` before a limit.

    `unusable` names every row left out, with its reason; they count for nothing and are reported.
    `digest` is a hash over ids, texts and gold answers. `where` is the source that was read, and
    `tried` the sources before it that could not be.
    """

    items: list[Item]
    unusable: list[str]
    where: str
    digest: str
    total: int
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one configuration and split."""

    name: str
    rows: Iterator[dict[str, Any]]


def load_items(
    benchmark: Benchmark, data_root: str | Path | None = None, limit: int | None = None
) -> Loaded:
    """Read a benchmark.

    With `data_root`, rows and media come from `data_root/KEY`; otherwise from the declaration's
    sources, the first that can be loaded. `limit` takes that many items, evenly spread over all.
    Raises `DataError`: no source can be loaded, a column is gone, no row is usable.
    """
    if data_root is not None:
        return _read(benchmark, *_local(benchmark, Path(data_root) / benchmark.key), limit)
    tried: list[str] = []
    for source in benchmark.sources:
        try:
            found = _read(benchmark, *_open(benchmark, source), limit)
        except _Unavailable as error:
            tried.append(f"{source.name}: {error}")
            continue
        return replace(found, tried=tuple(tried))
    lines = "\n  ".join(tried)
    raise DataError(
        f"{benchmark.key}: none of its sources can be loaded:\n  {lines}\nWith the data in a "
        f"folder of yours, give --data-root FOLDER and put it into FOLDER/{benchmark.key}."
    )


class _Unavailable(Exception):
    """A source cannot be reached or loaded; the next one may."""


def _read(
    benchmark: Benchmark,
    where: str,
    folder: Path,
    videos: VideoFinder,
    parts: Iterator[_Part],
    limit: int | None,
) -> Loaded:
    reader = RowReader(benchmark, folder, videos)
    items: dict[str, Item] = {}
    unusable: list[str] = []
    sha = hashlib.sha256()
    for part in parts:
        for number, row in enumerate(part.rows):
            if number == 0:
                require_columns(benchmark, list(row), f"{where} ({part.name})")
            try:
                found = list(reader.items({**row, PART: part.name, ROOT: str(folder)}, number))
                for item in found:
                    _claim(items, item)
            except RowProblem as problem:
                reason = problem.detail or problem.reason
                unusable.append(f"{part.name} row {number}, {problem.field}: {reason}")
    for item in items.values():
        fields = (item.id, item.question.text, item.question.answer, item.question.options)
        sha.update(json.dumps(fields).encode() + b"\n")
    if not items:
        first = f" The first: {unusable[0]}" if unusable else ""
        raise DataError(f"{benchmark.key}: {where} holds no usable row.{first}")
    chosen = evenly(list(items.values()), limit)
    return Loaded(chosen, unusable, where, sha.hexdigest()[:16], len(items))


def _claim(items: dict[str, Item], item: Item) -> None:
    if item.id in items:
        raise RowProblem("id", "duplicate id", f"a second row has the id `{item.id}`")
    items[item.id] = item


def evenly(items: Sequence[Item], limit: int | None) -> list[Item]:
    """`limit` items at equal distances, so that a small sample meets all parts of the data."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def require_columns(benchmark: Benchmark, names: Sequence[str], where: str) -> None:
    """Raise `DataError` that names each column that is gone and the nearest that is there."""
    gone: list[str] = []
    for wanted in benchmark.columns.required():
        # A column that starts with `_` is made by the benchmark's reader.
        if wanted.startswith("_") or any(part in names for part in wanted.split("|")):
            continue
        near = difflib.get_close_matches(wanted.split("|")[0], names, n=1, cutoff=0.5)
        gone.append(f"`{wanted}`" + (f" (now `{near[0]}`?)" if near else ""))
    if gone:
        here = ", ".join(name for name in names if not name.startswith("_"))
        raise DataError(
            f"{benchmark.key}: {where} has changed since version {benchmark.version} of its "
            f"declaration: no column {', '.join(gone)}. Columns here: {here}."
        )


def _open(benchmark: Benchmark, source: Source) -> tuple[str, Path, VideoFinder, Iterator[_Part]]:
    if source.file is not None:
        file = Path(benchmark.folder) / source.file
        if not file.is_file():
            raise _Unavailable("no such file")
        parts = iter([_Part(source.splits[0], _file_rows(file))])
        return str(file), file.parent, VideoFinder(file.parent), parts
    assert source.dataset is not None
    name = source.dataset
    parts = [(c, s, _hub_table(name, c, s)) for c, s in source.parts]  # all, before one is read
    return (
        f"hf:{name}",
        Path.cwd(),
        VideoFinder(Path.cwd() / "videos", lambda file: _hub_file(name, file)),
        (_Part(c or s, _table_rows(table)) for c, s, table in parts),
    )


def _hub_table(name: str, config: str | None, split: str) -> Any:
    """A data set of the hub, downloaded and cached by `datasets`. Raises `_Unavailable`."""
    import datasets

    try:
        return datasets.load_dataset(name, config, split=split)
    except Exception as error:  # network, hub, gate, builder: each has its own exceptions
        reason = " ".join(str(error).split())[:300]
        raise _Unavailable(f"{config or ''} {split}: {type(error).__name__}: {reason}") from None


def _hub_file(dataset: str, file: str) -> str | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        return hf_hub_download(dataset, file, repo_type="dataset")
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as error:
        raise RowProblem("video", "download failed", f"{file}: {error}") from None


def _table_rows(data: Any) -> Iterator[dict[str, Any]]:
    """Rows straight from the Arrow table, so that images stay encoded."""
    for table in data.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        yield from table.to_pylist()


def _local(benchmark: Benchmark, folder: Path) -> tuple[str, Path, VideoFinder, Iterator[_Part]]:
    """Parts of `folder`: `CONFIG.SPLIT.jsonl`, `CONFIG.jsonl`, or `SPLIT.jsonl` for all
    configurations at once (or .parquet, .json, .csv), whichever exists first."""
    if not folder.is_dir():
        raise DataError(f"{benchmark.key}: there is no folder `{folder}` (--data-root).")
    parts: list[_Part] = []
    missing: list[str] = []
    seen: set[Path] = set()
    for config, split in benchmark.sources[0].parts:
        names = [(split, split)]  # (beginning of the file's name, what the part is called)
        if config is not None:
            names = [(f"{config}.{split}", config), (config, config), *names]
        files = [(folder / f"{name}{end}", part) for name, part in names for end in _SUFFIXES]
        file, part = next(((f, p) for f, p in files if f.is_file()), (None, ""))
        if file is None:
            missing.append(names[0][0])
        elif file not in seen:
            seen.add(file)
            parts.append(_Part(part, _file_rows(file)))
    if missing:
        raise DataError(
            f"{benchmark.key}: `{folder}` lacks {', '.join(missing[:5])}"
            f"{' and more' if len(missing) > 5 else ''} as .jsonl or .parquet."
        )
    return str(folder), folder, VideoFinder(folder), iter(parts)


def _file_rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        yield from _parquet_rows(file)
        return
    for row in open_source(str(file), ColumnsConfig()).scan():
        if row.values is None:
            raise DataError(f"`{file}`, row {row.number}: {row.problem}")
        yield row.values


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    """All columns of a Parquet file; the training reader takes only those it knows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"Cannot read `{file}`: {error}") from None


def describe(loaded: Loaded) -> Mapping[str, Any]:
    """What a result says about its data."""
    return {
        "where": loaded.where,
        "digest": loaded.digest,
        "tried": list(loaded.tried),
        "unusable": len(loaded.unusable),
        "unusable_rows": loaded.unusable[:20],
    }
