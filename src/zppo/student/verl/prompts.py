"""A step's prompts, for the rollout servers and for the trainer: headers of media are read, no
pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zppo.student.inputs import EncodedPrompt, PromptEncoder
from zppo.student.verl.batch import PromptRow
from zppo.student.verl.media import ImageReference, PixelReference, VideoReference
from zppo.types import Media, Prompt


@dataclass(frozen=True, slots=True, eq=False)
class RequestedPrompt:
    """What a server is shown: token ids (P,) int32, forced prefix included, and the media."""

    ids: np.ndarray
    prefix_ids: tuple[int, ...] = ()
    images: tuple[ImageReference, ...] = ()
    videos: tuple[VideoReference, ...] = ()


class StepPrompts:
    """Encodes prompts, and those of a step once: what is rolled out is learnt from."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self.encoder = encoder
        # By identity, with the prompt itself, so that no other can take its place.
        self._kept: dict[int, tuple[Prompt, EncodedPrompt]] = {}

    def requested(self, prompts: Sequence[Prompt], keep: bool) -> list[RequestedPrompt]:
        """The prompts as a rollout server takes them; `keep` them for `rows`. Raises what
        `PromptEncoder.length` raises."""
        found: list[RequestedPrompt] = []
        for prompt in prompts:
            outline = self._outline(prompt)
            if keep:
                self._kept[id(prompt)] = prompt, outline
            found.append(requested(self.encoder, prompt, outline))
        return found

    def rows(self, prompts: Sequence[Prompt]) -> list[PromptRow]:
        """The prompts as verl's trainer takes them."""
        return [prompt_row(self.encoder, prompt, self._outline(prompt)) for prompt in prompts]

    def forget(self) -> None:
        """What was kept is of no use any more."""
        self._kept.clear()

    def _outline(self, prompt: Prompt) -> EncodedPrompt:
        kept = self._kept.get(id(prompt))
        return self.encoder.outline(prompt) if kept is None else kept[1]


def requested(encoder: PromptEncoder, prompt: Prompt, outline: EncodedPrompt) -> RequestedPrompt:
    """A prompt as a rollout server takes it; `outline` is the encoder's of it."""
    media = prompt.question.media
    pictures = [m for m in media if m.kind == "image"]
    films = [m for m in media if m.kind == "video"]
    limits = encoder.limits
    images = tuple(
        ImageReference(m.parts[0], _size(encoder, grid))
        for m, (_, grid) in zip(pictures, outline.images, strict=True)
    )
    videos = tuple(
        VideoReference(m, _size(encoder, grid), limits.max_frames, limits.video_fps)
        for m, (_, grid) in zip(films, outline.videos, strict=True)
    )
    # A server writes a video's frames and their times into the prompt by itself.
    ids = encoder.unfilled(prompt) if videos else outline.ids
    return RequestedPrompt(ids.astype(np.int32), prompt.prefix_ids, images, videos)


def prompt_row(encoder: PromptEncoder, prompt: Prompt, outline: EncodedPrompt) -> PromptRow:
    """Likewise as verl's trainer takes it."""
    batch = encoder.collate([outline], "cpu")
    return PromptRow(
        ids=outline.ids,
        positions=batch.positions[:, 0].numpy() if batch.positions.ndim == 3 else None,
        next_position=int(batch.next_position),
        media=_pixels(encoder, prompt, prompt.question.media) if prompt.question.media else None,
    )


def _pixels(encoder: PromptEncoder, prompt: Prompt, media: tuple[Media, ...]) -> PixelReference:
    return PixelReference(
        media, tuple(encoder.caps(prompt)), encoder.image_processor, encoder.limits
    )


def _size(encoder: PromptEncoder, grid: np.ndarray) -> tuple[int, int]:
    """Width and height of what a grid of patches covers."""
    patch = encoder.image_processor.patch_size if encoder.image_processor else 0
    return int(grid[2]) * patch, int(grid[1]) * patch
