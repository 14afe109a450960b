"""Images and video frames, small enough for a page to hold them itself."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

from zppo.data.media import load_frames, load_image
from zppo.errors import ZppoError
from zppo.report.text import one_line
from zppo.runs.media import MediaStore
from zppo.types import Media

SIDE = 256  # pixels of the longer side at most
FRAMES = 6
_SMALL = 128
_FPS = 1.0  # frames a second, where the video has no rate of its own


class Thumbnails:
    """Turns the media rows of a log into images for a page. What was made once is kept."""

    def __init__(self, store: MediaStore) -> None:
        self._store = store
        self._made: dict[str, tuple[list[str], str]] = {}

    def of(self, row: dict[str, Any]) -> tuple[list[str], str]:
        """(image tags, a line about what they show or why there are none)."""
        key = json.dumps(row, sort_keys=True)
        if key not in self._made:
            self._made[key] = self._make(row)
        return self._made[key]

    def _make(self, row: dict[str, Any]) -> tuple[list[str], str]:
        try:
            return picture_tags(self._store.from_dict(row))
        except ZppoError as error:
            return [], one_line(str(error), 200)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return [], f"media that cannot be read ({type(error).__name__})"


def picture_tags(media: Media) -> tuple[list[str], str]:
    """(image tags, a line about what they show or why there are none)."""
    try:
        images, words = _images(media)
    except ZppoError as error:
        return [], one_line(str(error), 200)
    return [_tag(image) for image in images], words


def _images(media: Media) -> tuple[list[Image.Image], str]:
    if media.kind == "image":
        image = load_image(media.parts[0])
        return [image], f"image, {image.width} x {image.height}"
    frames, times = load_frames(media, FRAMES, media.fps or _FPS)
    count = f"{len(media.parts)} frames" if len(media.parts) > 1 else "video"
    size = f"{frames[0].width} x {frames[0].height}"
    shown = "" if len(media.parts) == len(frames) else f", {len(frames)} shown"
    return frames, f"{count}, {size}, {times[-1]:.1f} s{shown}"


def _tag(image: Image.Image) -> str:
    """An image within `SIDE`; one so small that its pixels count is marked for enlarging."""
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80, lossless=max(image.size) <= _SMALL)
    content = base64.b64encode(buffer.getvalue()).decode()
    small = " class=small" if max(image.size) <= _SMALL else ""
    return f'<img src="data:image/webp;base64,{content}" alt="" loading="lazy"{small}>'
