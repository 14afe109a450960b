"""Writing files so that a kill at any moment leaves either the old or the new one, never a part."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zppo.errors import RunError

#: Names that start like this are unfinished or doomed; nothing reads them.
HIDDEN = ".tmp-"


@contextmanager
def naming(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an `OSError` of the block into a `RunError` that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot {action} `{path}`: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "the disk is full. Free some space (run.keep_checkpoints and run.save_rollouts say "
            "how much a run keeps), then go on with `zppo resume`."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there. Choose another folder with run.dir=FOLDER."
    return error.strerror or str(error)


def write_atomic(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace `path` by `content` in one move. `sync` also makes it survive a power cut, which
    takes milliseconds. Raises `RunError`."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(HIDDEN + path.name)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            sync_folder(path.parent)


def write_gzip(path: Path, lines: Iterable[str]) -> None:
    """Replace `path` by compressed text in one move; the same text gives the same bytes (no time
    stamp). Lines are written as they come, so a step's log is never held in memory as a whole.

    Level 1: a step of the paper's size has 230 MB of text, which level 5 would pack a sixth
    tighter in more than twice the time.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(HIDDEN + path.name)
        with (
            temporary.open("wb") as file,
            gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
        ):
            for line in lines:
                packed.write(line.encode("utf-8"))
        os.replace(temporary, path)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems refuse; the rename itself is still atomic
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush every file below `folder`, then the folders themselves, to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        else:
            sync_folder(path)
    sync_folder(folder)


def discard(folder: Path) -> None:
    """Delete a folder. It is renamed first, so that a kill half-way leaves no folder that looks
    whole and is not."""
    if not folder.name.startswith(HIDDEN):
        doomed = folder.with_name(HIDDEN + "old-" + folder.name)
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(folder, doomed)
        folder = doomed
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writes left in `folder`."""
    if not folder.is_dir():
        return
    for path in folder.glob(HIDDEN + "*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
