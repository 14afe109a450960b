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

from zppo.data.media import load_image
from zppo.student.inputs import EncodedPrompt, PromptEncoder
from zppo.student.pixels import load_pixels
from zppo.student.verl.batch import PromptRow
from zppo.student.visual import VisualLimits
from zppo.types import Media, Prompt

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
    """An image of a rollout request. It is pickled as what it names and unpickled as the RGB
    picture, `size` (width, height) pixels large: the receiver's own resizing finds it right."""

    part: str | bytes
    size: tuple[int, int]

    def __reduce__(self) -> tuple[Any, ...]:
        return _picture, (self.part, self.size)


def prompt_rows(encoder: PromptEncoder, prompts: Sequence[Prompt]) -> list[PromptRow]:
    """The prompts as verl's trainer takes them; of their media, headers are read and no pixels.
    Raises what `PromptEncoder.length` raises."""
    return [_row(encoder, prompt, encoder.outline(prompt)) for prompt in prompts]


def image_references(
    encoder: PromptEncoder, prompt: Prompt, outline: EncodedPrompt
) -> list[ImageReference]:
    """The images of `prompt` for a rollout server, in order; `outline` is the encoder's of it."""
    patch = encoder.image_processor.patch_size if encoder.image_processor else 0
    grids = [grid for _, grid in outline.images]
    images = [media for media in prompt.question.media if media.kind == "image"]
    return [
        ImageReference(media.parts[0], (int(grid[2]) * patch, int(grid[1]) * patch))
        for media, grid in zip(images, grids, strict=True)
    ]


def _row(encoder: PromptEncoder, prompt: Prompt, outline: EncodedPrompt) -> PromptRow:
    batch = encoder.collate([outline], "cpu")
    media = prompt.question.media
    pixels = PixelReference(
        media, tuple(encoder.caps(prompt)), encoder.image_processor, encoder.limits
    )
    return PromptRow(
        ids=outline.ids,
        positions=batch.positions[:, 0].numpy() if batch.positions.ndim == 3 else None,
        next_position=int(batch.next_position),
        media=pixels if media else None,
    )


def _picture(part: str | bytes, size: tuple[int, int]) -> Image.Image:
    return load_image(part).resize(size, Image.Resampling.BICUBIC)
