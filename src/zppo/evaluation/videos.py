"""Where a benchmark's videos lie: in a folder the user has, or in the data set's repository."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath

from zppo.data.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from zppo.data.skips import RowProblem
from zppo.types import Media

#: Gives the local path of a repository's file, None when it has no such file.
Fetch = Callable[[str], str | None]

#: Frames a second of videos that are stored as a folder of frames (MVBench's TV clips).
FRAME_RATE = 3.0


class VideoFinder:
    """Finds files by name. Archives are not unpacked: which of them a user wants, and where the
    space for them is, is theirs to say."""

    def __init__(self, folder: Path, fetch: Fetch | None = None) -> None:
        self.folder, self.fetch = folder, fetch

    def find(self, name: str, part: str) -> Media:
        """The video called `name` (a path inside the data set) of a row of `part`.

        Among files of one name the one is taken whose path has most of the folders of `name` and
        `part`. Raises `RowProblem`, also when that does not tell two files apart.
        """
        path = self._local(name, part)
        if path is None and self.fetch is not None:
            found = self.fetch(name)
            path = None if found is None else Path(found)
        if path is None:
            raise RowProblem(
                "video",
                "no video",
                f"`{name}` is neither below {self.folder} nor a file of the data set's repository; "
                "download and unpack its archives there (--data-root)",
            )
        if path.is_dir():
            frames = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if len(frames) < 2:
                raise RowProblem("video", "no video", f"the folder {path} holds no frames")
            return Media("video", tuple(map(str, frames)), FRAME_RATE)
        return Media("video", (str(path),))

    def _local(self, name: str, part: str) -> Path | None:
        exact = self.folder / name
        if exact.exists() and not Path(name).is_absolute() and ".." not in Path(name).parts:
            return exact
        found = self._index.get(PurePosixPath(name).name, [])
        if len(found) < 2:
            return found[0] if found else None
        wanted = {part, *PurePosixPath(name).parts[:-1]}
        shared = [len(wanted.intersection(p.relative_to(self.folder).parts[:-1])) for p in found]
        best = [p for p, n in zip(found, shared, strict=True) if n == max(shared)]
        if len(best) > 1:
            places = ", ".join(str(p) for p in best[:3])
            raise RowProblem(
                "video",
                "ambiguous video",
                f"`{name}` could be any of {places}; remove the others, or keep the folders that "
                "the archives unpack into",
            )
        return best[0]

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """Videos and folders of frames below the folder, by name."""
        index: dict[str, list[Path]] = {}
        if self.folder.is_dir():
            for path in sorted(self.folder.rglob("*")):
                if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
                    index.setdefault(path.name, []).append(path)
        return index
