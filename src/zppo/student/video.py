"""Pixel patches of video frames.

The library's own video processor needs torchvision, whose wheels do not fit a CPU build of torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image


def patch_video(
    frames: Sequence[Image.Image], processor: Any, max_pixels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel patches of a video as Qwen3-VL's processor makes them.

    `frames` share one size. `max_pixels` bounds frames * height * width; None: the image
    processor's `size.longest_edge` a frame. Returns patches (t*h*w, C*tp*p*p) and grid (t, h, w).
    """
    p, m, tp = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    width, height = frames[0].size
    height, width = video_size(len(frames), height, width, processor, max_pixels)
    count = math.ceil(len(frames) / tp) * tp
    pixels = np.stack(
        [
            np.asarray(f.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
            for f in frames
        ]
    ).astype(np.float32)
    pixels = (pixels / 255.0 - processor.image_mean) / processor.image_std
    pixels = np.concatenate([pixels, np.repeat(pixels[-1:], count - len(frames), axis=0)])
    t, h, w = count // tp, height // p, width // p
    x = pixels.transpose(0, 3, 1, 2).reshape(t, tp, 3, h // m, m, p, w // m, m, p)
    x = x.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 3 * tp * p * p)
    return np.ascontiguousarray(x, dtype=np.float32), np.array([t, h, w], dtype=np.int64)


def video_size(
    frames: int, height: int, width: int, processor: Any, max_pixels: int | None
) -> tuple[int, int]:
    """Height and width that a video's frames are resized to."""
    depth = processor.temporal_patch_size
    count = math.ceil(frames / depth) * depth
    limit = max_pixels or processor.size["longest_edge"] * count
    floor = min(processor.size["shortest_edge"], limit)
    factor = processor.patch_size * processor.merge_size
    return fit(height, width, count, factor, floor, limit)


def fit(
    height: int, width: int, count: int, factor: int, floor: int, limit: int, least: int = 1
) -> tuple[int, int]:
    """Nearest size divisible by `factor` whose volume count*h*w lies in [floor, limit]. A side
    is rounded to `least` factors at least; images of Qwen-VL have 0, which enlarges thin ones."""
    h, w = (max(least, round(x / factor)) * factor for x in (height, width))
    if count * h * w > limit:
        scale = math.sqrt(count * height * width / limit)
        h, w = (max(factor, math.floor(x / scale / factor) * factor) for x in (height, width))
    elif count * h * w < floor:
        scale = math.sqrt(floor / (count * height * width))
        h, w = (math.ceil(x * scale / factor) * factor for x in (height, width))
    return h, w
