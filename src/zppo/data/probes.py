"""Look at a media file while the data is read: is it there, sound and large enough?

Faults that would stop a run at step 150 are found before step 0. Much cheaper than decoding: PNG
files are checked by their checksums, JPEG files decoded at an eighth of their size.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from pathlib import Path
from threading import Lock

from zppo.data.media import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    open_image,
    open_video,
    part_name,
)
from zppo.data.skips import RowProblem
from zppo.errors import DataError

_DIGEST_BYTES = 1 << 20
_REMEMBERED = 8_192  # files; questions that share one stand close to each other


class Probe:
    """Checks parts of media and remembers what it found, for files that questions share. Threads
    may share it too: a file that one of them checks is not checked by another."""

    def __init__(self, min_image_side: int) -> None:
        """`min_image_side` in pixels: the shorter side of an image or a video frame."""
        self.min_image_side = min_image_side
        self._known: dict[tuple[str, str], Future[RowProblem | None]] = {}
        self._lock = Lock()

    def image(self, part: str | bytes, column: str) -> None:
        """Raise `RowProblem` unless the part is a sound image of at least the minimum size."""
        self._remembered("image", part, column)

    def video(self, part: str | bytes, column: str) -> None:
        """Raise `RowProblem` unless the part is a video file whose frames are large enough."""
        self._remembered("video", part, column)

    def _remembered(self, noun: str, part: str | bytes, column: str) -> None:
        if isinstance(part, bytes):
            problem = self._check(noun, part, column)
        else:
            with self._lock:
                found = self._known.get((noun, part))
                new = found is None
                if found is None:
                    if len(self._known) >= _REMEMBERED:
                        self._known.clear()
                    found = self._known[noun, part] = Future()
            if new:
                try:
                    found.set_result(self._check(noun, part, column))
                except BaseException as error:
                    found.set_exception(error)  # or those who wait would wait for ever
            problem = found.result()
        if problem:
            raise RowProblem(column, problem.reason, problem.detail)

    def _check(self, noun: str, part: str | bytes, column: str) -> RowProblem | None:
        name = part_name(part, noun)
        try:
            if isinstance(part, str):
                _check_path(Path(part), noun, column)
            width, height = _image_size(part) if noun == "image" else _video_size(part)
        except RowProblem as problem:
            return problem
        except DataError as error:
            return RowProblem(column, f"corrupt {noun}", str(error))
        if min(width, height) < self.min_image_side:
            limit = f"data.min_image_side is {self.min_image_side}"
            detail = f"{name}: {width} x {height} pixels, {limit}"
            return RowProblem(column, f"{noun} too small", detail)
        return None


def digest(part: str | bytes) -> bytes:
    """A fingerprint of the content of a part that was found sound, wherever the file lies.

    Of large files only the size and the first MiB are read. Raises `RowProblem` if that fails.
    """
    if isinstance(part, bytes):
        return hashlib.sha256(part).digest()
    try:
        with Path(part).open("rb") as file:
            head = file.read(_DIGEST_BYTES)
            size = file.seek(0, 2)
    except OSError as error:
        raise RowProblem("id", "unreadable file", f"{part}: {error.strerror}") from None
    if size <= _DIGEST_BYTES:
        return hashlib.sha256(head).digest()
    return hashlib.sha256(head + str(size).encode()).digest()


def _check_path(path: Path, noun: str, column: str) -> None:
    try:
        found = path.is_file()
    except (OSError, ValueError):  # a name too long, a NUL in it
        found = False
    if not found:
        raise RowProblem(column, f"{noun} missing", f"{str(path)!r}: no such file")
    suffixes = IMAGE_SUFFIXES if noun == "image" else VIDEO_SUFFIXES
    if path.suffix.lower() not in suffixes:
        detail = f"{path}: unsupported suffix; use {', '.join(sorted(suffixes))}"
        raise RowProblem(column, f"unsupported {noun} format", detail)


def _image_size(part: str | bytes) -> tuple[int, int]:
    name = part_name(part, "image")
    with open_image(part, name) as image:
        size = image.size
        try:
            if image.format == "PNG":
                image.verify()
            else:
                image.draft(None, (max(size[0] // 8, 1), max(size[1] // 8, 1)))
                image.load()
        except Exception as error:  # the decoders of Pillow raise nearly anything on bad data
            raise DataError(f"{name}: damaged image: {error}") from None
    return size


def _video_size(part: str | bytes) -> tuple[int, int]:
    with open_video(part) as (_, stream):
        return stream.width, stream.height
