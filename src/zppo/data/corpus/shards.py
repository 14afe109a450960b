"""The Parquet files of a source: in a local folder, or on the hub, read there without a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from zppo.errors import DataError

BATCH_ROWS = 64  # rows in memory at a time; they hold images


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a source: its path in it, and its size in bytes."""

    path: str
    size: int


class Store(Protocol):
    """Where a source lies. `where` names it in messages and in the manifest, with the revision."""

    where: str

    def shards(self, pattern: str) -> list[Shard]:
        """The files whose path matches, in order. Raises `DataError`."""
        ...

    def open(self, path: str) -> Any:
        """A binary file that can seek. Raises `OSError`."""
        ...


class FolderStore:
    """A local copy, laid out like the source."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"No folder `{folder}`.")
        self.folder, self.where = folder, str(folder)

    def shards(self, pattern: str) -> list[Shard]:
        files = sorted(self.folder.glob(pattern))
        return [Shard(f.relative_to(self.folder).as_posix(), f.stat().st_size) for f in files]

    def open(self, path: str) -> Any:
        return (self.folder / path).open("rb")


class HubStore:
    """A data set of the Hugging Face hub at one revision. Files are read over the network in
    pieces: nothing of them is kept on the disk."""

    def __init__(self, dataset: str, revision: str | None = None) -> None:
        from huggingface_hub import HfApi, HfFileSystem

        self.dataset = dataset
        try:
            info = HfApi().dataset_info(dataset, revision=revision, files_metadata=True)
        except Exception as error:  # network, hub, permissions: it cannot be reached
            raise DataError(
                f"Cannot reach `{dataset}` on the hub: {type(error).__name__}: {error}"
            ) from None
        self.revision = info.sha or "main"
        self.where = f"hf:{dataset}@{self.revision}"
        self._files = [(f.rfilename, f.size or 0) for f in info.siblings or ()]
        self._system = HfFileSystem()

    def shards(self, pattern: str) -> list[Shard]:
        found = [
            Shard(name, size)
            for name, size in sorted(self._files)
            if fnmatch(name, pattern) and name.count("/") == pattern.count("/")
        ]
        return found

    def open(self, path: str) -> Any:
        return self._system.open(f"datasets/{self.dataset}@{self.revision}/{path}", "rb")


@contextmanager
def parquet(store: Store, path: str) -> Iterator[Any]:
    """A Parquet file of a store. Raises `DataError` for all that goes wrong, also while it is
    read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(path) as raw, pq.ParquetFile(raw) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{store.where}, {path}: cannot read it: {error}") from None


def rows_of(file: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of an open Parquet file, these columns of them."""
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
        yield from batch.to_pylist()
