"""How much of a prompt its images and videos take: exactly, and without decoding them.

Sizes come from the headers of images and the packets of videos, so a corpus can be measured before
training; what is measured here is what `PromptEncoder.encode` then makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zppo.data.media import frame_plan, image_size
from zppo.errors import ModelError
from zppo.student.video import fit, video_size
from zppo.types import Media

START, END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"


@dataclass(frozen=True, slots=True)
class Visual:
    """An image or video as the prompt shows it: `frames` of `tokens` visual tokens each; `times`
    are the seconds a video's frames are marked with, empty for an image."""

    frames: int
    tokens: int
    times: tuple[float, ...] = ()

    @property
    def total(self) -> int:
        """Visual tokens."""
        return self.frames * self.tokens

    def filling(self, tokens: int | None = None) -> str:
        """What takes the place of its placeholder, with `tokens` in place of its own number."""
        count = self.tokens if tokens is None else tokens
        if not self.times:
            return IMAGE_PAD * count
        frame = START + VIDEO_PAD * count + END
        return "".join(f"<{t:.1f} seconds>{frame}" for t in self.times)


@dataclass(frozen=True, slots=True)
class VisualLimits:
    """What media are sampled and resized to.

    video_max_pixels   frames * height * width of a video; None: the image processor's
                       `size.longest_edge` a frame
    visual_tokens      of a reformulated prompt; None: no other than a plain one's
    """

    video_fps: float = 2.0
    max_frames: int = 64
    video_max_pixels: int | None = None
    visual_tokens: int | None = None


def measure(
    media: Media, processor: Any, limits: VisualLimits, max_pixels: int | None = None
) -> Visual:
    """The visual tokens of an image or video kept within `max_pixels` (of all its frames
    together; None: within the usual bounds). Raises `DataError`, and `ValueError` for shapes that
    the processor refuses."""
    merge = processor.merge_size**2
    if media.kind == "image":
        width, height = image_size(media.parts[0])
        bounds = {} if max_pixels is None else {"max_pixels": max_pixels}
        return Visual(1, processor.get_number_of_image_patches(height, width, bounds) // merge)
    times, (width, height) = frame_plan(media, limits.max_frames, limits.video_fps)
    shown = merged_times(times, processor.temporal_patch_size)
    height, width = video_size(
        len(times), height, width, processor, max_pixels or limits.video_max_pixels
    )
    patches = (height // processor.patch_size) * (width // processor.patch_size)
    return Visual(len(shown), patches // merge, shown)


def grid(
    media: Media,
    visual: Visual,
    processor: Any,
    limits: VisualLimits,
    max_pixels: int | None = None,
) -> np.ndarray:
    """Grid (3,) int64 of the patches of what `measure` measured with the same arguments: frames,
    rows and columns. Raises `ModelError` for a processor that resizes by a rule of its own."""
    if media.kind == "image":
        width, height = image_size(media.parts[0])
        longest = max_pixels or processor.size["longest_edge"]
        shortest = min(processor.size["shortest_edge"], longest)
        cell = processor.patch_size * processor.merge_size
        height, width = fit(height, width, 1, cell, shortest, longest, least=0)
    else:
        times, (width, height) = frame_plan(media, limits.max_frames, limits.video_fps)
        height, width = video_size(
            len(times), height, width, processor, max_pixels or limits.video_max_pixels
        )
    rows, columns = height // processor.patch_size, width // processor.patch_size
    if rows * columns != visual.tokens * processor.merge_size**2:
        raise ModelError(
            f"{type(processor).__name__} makes {visual.tokens} tokens of a {media.kind} where the "
            f"rule of Qwen-VL makes {rows * columns // processor.merge_size**2}; its media cannot "
            "be decoded away from the driver."
        )
    return np.array([visual.frames, rows, columns], dtype=np.int64)


def within(
    budget: int, media: tuple[Media, ...], processor: Any, limits: VisualLimits
) -> list[int | None]:
    """For each of the media the pixels that keep all of them within `budget` visual tokens; None
    where nothing has to shrink. Every frame has one token; the rest is shared out as they usually
    take it."""
    usual = [measure(item, processor, limits) for item in media]
    total, least = (sum(v.total for v in usual), sum(v.frames for v in usual))
    if total <= budget:
        return [None] * len(media)
    share = max(budget - least, 0) / max(total - least, 1)
    cell = (processor.patch_size * processor.merge_size) ** 2
    caps: list[int | None] = []
    for item, visual in zip(media, usual, strict=True):
        depth = processor.temporal_patch_size if item.kind == "video" else 1
        tokens = visual.frames + int(share * (visual.total - visual.frames))
        caps.append(tokens * cell * depth)
    return caps


def merged_times(times: list[float], depth: int) -> tuple[float, ...]:
    """Seconds of the temporal patches: `depth` frames share the mean of the first and the last."""
    times = times + times[-1:] * (-len(times) % depth)
    return tuple((times[i] + times[i + depth - 1]) / 2 for i in range(0, len(times), depth))
