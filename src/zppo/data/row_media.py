"""From the image and video columns of a row to the `Media` of a question.

An image is a path (relative to the data file's folder, or absolute), a data URI, bytes, or the
`{"bytes": ..., "path": ...}` of the `datasets` library. A video is a file in one of these forms,
or a list of frames (`{"frames": [...], "fps": 2}` gives their rate).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zppo.config import ColumnsConfig, DataConfig
from zppo.data.fields import Row, is_list, show
from zppo.data.media import IMAGE_SUFFIXES
from zppo.data.probes import Probe
from zppo.data.raw import cell
from zppo.data.skips import RowProblem
from zppo.types import Media

_FPS = (0.001, 1_000)  # frames a second that a list of frames may have


class MediaReader:
    """Reads and checks the media of one data source; `folder` is where relative paths start."""

    def __init__(
        self, config: DataConfig, folder: Path, columns: ColumnsConfig | None = None
    ) -> None:
        self.columns = columns or config.columns
        self.video_fps = config.video_fps
        self.folder = folder.absolute()
        self.probe = Probe(config.min_image_side)

    def media(self, row: Row) -> tuple[Media, ...]:
        """The media of a row, opened and found sound. Raises `RowProblem`."""
        found = self.named(row)
        for media in found:
            self.check(media)
        return found

    def named(self, row: Row, inline: Mapping[str, list[Any]] | None = None) -> tuple[Media, ...]:
        """Images first, then videos, in the order of the row: those of its columns, or else those
        that a message holds (`inline`). Files are named, not opened. Raises `RowProblem`."""
        inline = inline or {}
        images = _items(cell(row, self.columns.images)) or inline.get("images", [])
        videos = _items(cell(row, self.columns.videos)) or inline.get("videos", [])
        return (*(self._image(v) for v in images), *(self._video(v) for v in _films(videos)))

    def check(self, media: Media) -> None:
        """Raise `RowProblem` when a part cannot be read or is too small."""
        column = self.columns.images if media.kind == "image" else self.columns.videos
        is_file = media.kind == "video" and len(media.parts) == 1
        for part in media.parts:
            if is_file:
                self.probe.video(part, column)
            else:
                self.probe.image(part, column)

    def _image(self, value: Any) -> Media:
        return Media("image", (self._part(value, self.columns.images),))

    def _video(self, value: Any) -> Media:
        column = self.columns.videos
        fps = self.video_fps
        if isinstance(value, Mapping) and "frames" in value:
            fps = _rate(value.get("fps"), fps, column)
            value = value["frames"]
            if not is_list(value):
                raise RowProblem(column, "wrong type", "`frames` must be a list of images")
        if is_list(value):
            parts = tuple(self._part(frame, column) for frame in value)
            if len(parts) < 2:
                detail = f"a list of frames needs at least 2, got {len(parts)}"
                raise RowProblem(column, "too few frames", detail)
            return Media("video", parts, fps)
        return Media("video", (self._part(value, column),))

    def _part(self, value: Any, column: str) -> str | bytes:
        """Absolute path or encoded bytes."""
        if isinstance(value, Mapping):
            content = value.get("bytes")
            value = value.get("path") if content is None else content
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if not isinstance(value, str) or not value:
            detail = f"expected a path or encoded bytes, got {type(value).__name__}"
            raise RowProblem(column, "wrong type", detail)
        if value.startswith("data:"):
            return _data_uri(value, column)
        if "://" in value:
            detail = f"{value[:80]!r}: only local files are read; download it first"
            raise RowProblem(column, "remote file", detail)
        return str(self.folder / value)


def _items(value: Any) -> list[Any]:
    """A list column; a single item stands for a list of one, null for none."""
    if value is None or value == "":
        return []
    return list(value) if is_list(value) else [value]


def _films(items: list[Any]) -> list[Any]:
    """The videos of a row; a flat list of two or more image paths is one video."""
    frames = [v for v in items if isinstance(v, str) and _suffix(v) in IMAGE_SUFFIXES]
    return [items] if items and len(frames) == len(items) else items


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _rate(value: Any, default: float, column: str) -> float:
    if value is None:
        return default
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not _FPS[0] <= value <= _FPS[1]:
        detail = f"`fps` must be a number from {_FPS[0]} to {_FPS[1]}, got {show(value)}"
        raise RowProblem(column, "wrong type", detail)
    return float(value)


def _data_uri(uri: str, column: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma or not header.endswith(";base64"):
        detail = f"data URI {header[:40]!r} is not base64"
        raise RowProblem(column, "invalid data URI", detail)
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowProblem(column, "invalid data URI", f"data URI: {error}") from None
