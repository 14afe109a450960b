"""Small data and media files for the tests of zppo.data."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from zppo.config import DataConfig

LENIENT = DataConfig(max_skipped_share=1.0, min_image_side=16)


def encoded(width: int = 32, height: int = 24, format: str = "PNG", seed: int = 0) -> bytes:
    """An image of noise, encoded; noise, so that cutting it off cannot go unnoticed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def write_jsonl(path: Path, rows: Iterable[Any]) -> str:
    """Rows as lines; a `str` row is written as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def write_video(path: Path, frames: int, rate: int = 10, size: tuple[int, int] = (64, 48)) -> str:
    """An mp4 whose frame i is grey level 10 * i, so that a frame tells its place."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            grey = np.full((size[1], size[0], 3), 10 * i % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def row(i: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid row; `changes` replace its columns."""
    return {"id": f"q{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} | changes
