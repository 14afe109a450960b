"""Pixels of an image or a video as patches: images by the checkpoint's own processor."""

from __future__ import annotations

from typing import Any

import numpy as np

from zppo.data.media import load_frames, load_image
from zppo.student.video import patch_video
from zppo.student.visual import Visual, VisualLimits, merged_times
from zppo.types import Media


def load_pixels(
    media: Media, processor: Any, limits: VisualLimits, cap: int | None
) -> tuple[np.ndarray, np.ndarray, Visual]:
    """Patches (n, d) float32, grid (3,) int64 and size in the prompt of an image or video within
    `cap` pixels (None: within the usual bounds). Raises `DataError` when a file is unusable."""
    merge = processor.merge_size**2
    if media.kind == "image":
        options = {} if cap is None else {"size": _size(processor, cap)}
        out = processor(images=[load_image(media.parts[0])], return_tensors="np", **options)
        patches = out["pixel_values"].astype(np.float32)
        grid = out["image_grid_thw"][0].astype(np.int64)
        return patches, grid, Visual(1, len(patches) // merge)
    frames, times = load_frames(media, limits.max_frames, limits.video_fps)
    patches, grid = patch_video(frames, processor, cap or limits.video_max_pixels)
    shown = merged_times(times, processor.temporal_patch_size)
    return patches, grid, Visual(len(shown), len(patches) // merge // len(shown), shown)


def _size(processor: Any, longest: int) -> dict[str, int]:
    shortest = min(processor.size["shortest_edge"], longest)
    return {"shortest_edge": shortest, "longest_edge": longest}
