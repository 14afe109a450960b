"""A question as the user message of a chat request: its media as data URIs, then the text."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

from PIL import Image

from zppo.data.media import load_frames, load_image
from zppo.types import Question

_QUALITY = 92


def user_message(
    question: Question, text: str, *, max_pixels: int, max_frames: int, fps: float
) -> dict[str, Any]:
    """The message; plain text where there are no media, as text-only servers want it.

    A video becomes its frames, with their times in a line before them. Frames and images larger
    than `max_pixels` are sent smaller. Raises `DataError` for media that cannot be read.
    """
    if not question.media:
        return {"role": "user", "content": text}
    parts: list[dict[str, Any]] = []
    for media in question.media:
        if media.kind == "image":
            parts += [_image(load_image(part), max_pixels, "PNG") for part in media.parts]
            continue
        frames, times = load_frames(media, max_frames, fps)
        stamps = ", ".join(f"{t:.1f}" for t in times)
        parts.append(_text(f"A video; its frames at {stamps} seconds:"))
        parts += [_image(frame, max_pixels, "JPEG") for frame in frames]
    return {"role": "user", "content": [*parts, _text(text)]}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(image: Image.Image, max_pixels: int, kind: str) -> dict[str, Any]:
    """Frames as JPEG, since there are many; images as PNG, unchanged but for their size."""
    width, height = image.size
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": _QUALITY} if kind == "JPEG" else {}))
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    uri = f"data:image/{kind.lower()};base64,{data}"
    return {"type": "image_url", "image_url": {"url": uri}}
