"""Images and videos on their way through the driver: references, decoded where they are used.

At the paper's size a step's pixels are tens of GiB, its image files well below one. So the driver
reads headers only, and what it sends names a file (or holds its bytes).
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zppo.data.media import load_frames, load_image
from zppo.student.pixels import load_pixels
from zppo.student.visual import VisualLimits
from zppo.types import Media

_NAMES = {
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw"),
}


@dataclass(frozen=True, slots=True, eq=False)
class PixelReference(Mapping[str, Tensor]):
    """What the model's forward takes of a prompt's media, by name.

    verl's ranks read it with `items`, one micro-batch at a time; each reading decodes, and nothing
    is kept. A path must be one that every machine can open.
    """

    media: tuple[Media, ...]
    caps: tuple[int | None, ...]
    processor: Any
    limits: VisualLimits

    def items(self) -> ItemsView[str, Tensor]:
        """Decode. Raises `DataError` when a file has gone."""
        return self._decoded().items()

    def __getitem__(self, name: str) -> Tensor:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return (name for kind, names in _NAMES.items() if self._of(kind) for name in names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name == own for own in self)

    def _of(self, kind: str) -> list[tuple[Media, int | None]]:
        pairs = zip(self.media, self.caps, strict=True)
        return [(media, cap) for media, cap in pairs if media.kind == kind]

    def _decoded(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for kind, (pixels, grids) in _NAMES.items():
            if not (media := self._of(kind)):
                continue
            made = [load_pixels(m, self.processor, self.limits, cap) for m, cap in media]
            found[pixels] = torch.from_numpy(np.concatenate([patches for patches, _, _ in made]))
            found[grids] = torch.from_numpy(np.stack([grid for _, grid, _ in made]))
        return found


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image of a rollout request: what it is named by, and the (width, height) that it is
    resized to, which the receiver's own resizing finds right."""

    part: str | bytes
    size: tuple[int, int]

    def open(self) -> Image.Image:
        """The RGB picture. Raises `DataError` when its file has gone."""
        return load_image(self.part).resize(self.size, Image.Resampling.BICUBIC)


@dataclass(frozen=True, slots=True)
class VideoReference:
    """A video of a rollout request; `size` as for an image."""

    media: Media
    size: tuple[int, int]
    max_frames: int
    fps: float

    def open(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Frames (F, height, width, 3) uint8, and metadata from which a server computes their
        times. Raises `DataError` when the file has gone."""
        frames, times = load_frames(self.media, self.max_frames, self.fps)
        pictures = [f.resize(self.size, Image.Resampling.BICUBIC) for f in frames]
        return np.stack([np.asarray(p.convert("RGB")) for p in pictures]), _metadata(times)


@dataclass(frozen=True, slots=True)
class AtReceiver:
    """Pickled as the reference it holds, unpickled as what that opens: pixels are made by the
    process that uses them."""

    reference: ImageReference | VideoReference

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.reference,)


def _opened(reference: ImageReference | VideoReference) -> Any:
    return reference.open()


#: Frames a second of the clock on which a video's frames are numbered for a server.
_TICKS = 1_000.0


def _metadata(times: Sequence[float]) -> dict[str, Any]:
    """A server takes the number of a frame by the rate as its time."""
    return {
        "fps": _TICKS,
        "frames_indices": [round(t * _TICKS) for t in times],
        "total_num_frames": round(times[-1] * _TICKS) + 1,
        "duration": times[-1],
        "video_backend": "zppo",
        "do_sample_frames": False,
    }
