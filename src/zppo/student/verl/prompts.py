"""A step's prompts, for the rollout servers and for the trainer: headers of media are read, no
pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import ProcessorMixin
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.utils import cached_file  # pyright: ignore[reportPrivateImportUsage]

from zppo.config import Config
from zppo.errors import ModelError
from zppo.student.inputs import EncodedPrompt, PromptEncoder
from zppo.student.loading import resolve_path
from zppo.student.verl.batch import PromptRow
from zppo.student.verl.media import ImageReference, PixelReference, VideoReference
from zppo.types import Prompt, Question

#: Servers that verl hands videos to as features, not as frames.
_WITHOUT_FRAMES = ("sglang",)
#: Bounds of a checkpoint that says nothing of videos.
_ANY = (0, 2**63)


@dataclass(frozen=True, slots=True, eq=False)
class RequestedPrompt:
    """What a server is shown: token ids (P,) int32, forced prefix included, and the media."""

    ids: np.ndarray
    prefix_ids: tuple[int, ...] = ()
    images: tuple[ImageReference, ...] = ()
    videos: tuple[VideoReference, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerMedia:
    """Which media a rollout server reads as they are. It would resize what lies outside the bounds
    of the checkpoint's own processors, in pixels, and then have other tokens than the trainer.

    images, videos   (least, most) of an image, of all frames of a video; None: none are taken
    rollout          the server's name, for messages
    """

    images: tuple[int, int] | None
    videos: tuple[int, int] | None
    rollout: str

    @classmethod
    def of(cls, image_processor: Any | None, config: Config) -> ServerMedia:
        """As the checkpoint has them; `image_processor` must not have been changed yet."""
        rollout = config.verl.rollout
        if image_processor is None or not hasattr(image_processor, "merge_size"):
            return cls(None, None, rollout)
        size = image_processor.size
        images = (size["shortest_edge"], size["longest_edge"])
        if rollout in _WITHOUT_FRAMES:
            return cls(images, None, rollout)
        path, _ = resolve_path(config.student.model)
        return cls(images, _video_bounds(path) or _ANY, rollout)

    def require(self, question: Question, kind: Literal["image", "video"], pixels: int) -> None:
        """Raises `ModelError` when the server cannot read an image or video of so many pixels as
        the trainer does."""
        bounds = self.images if kind == "image" else self.videos
        if bounds is None:
            raise ModelError(
                f"Question `{question.id}` has a {kind}, which verl.rollout={self.rollout} is not "
                "sent; verl.rollout=vllm takes it."
            )
        least, most = bounds
        if least <= pixels <= most:
            return
        too_small = pixels < least
        above = "data.max_pixels" if kind == "image" else "data.video_max_pixels"
        key = "data.min_pixels" if too_small else above
        raise ModelError(
            f"The {kind} of question `{question.id}` is shown with {pixels:,} pixels, which a "
            f"rollout server would resize: the checkpoint's own bounds are {least:,} to {most:,}. "
            f"Set {key}={least if too_small else most}."
        )


class StepPrompts:
    """Encodes prompts, and those of a step once: what is rolled out is learnt from."""

    def __init__(self, encoder: PromptEncoder, server: ServerMedia) -> None:
        self.encoder, self.server = encoder, server
        # By identity, with the prompt itself, so that no other can take its place.
        self._kept: dict[int, tuple[Prompt, EncodedPrompt]] = {}

    def requested(self, prompts: Sequence[Prompt], keep: bool) -> list[RequestedPrompt]:
        """The prompts as a rollout server takes them; `keep` them for `rows`. Raises what
        `PromptEncoder.length` raises, and `ModelError` for media that a server would read
        otherwise than the trainer."""
        found: list[RequestedPrompt] = []
        for prompt in prompts:
            outline = self._outline(prompt)
            if keep:
                self._kept[id(prompt)] = prompt, outline
            found.append(self._requested(prompt, outline))
        return found

    def rows(self, prompts: Sequence[Prompt]) -> list[PromptRow]:
        """The prompts as verl's trainer takes them."""
        return [prompt_row(self.encoder, prompt, self._outline(prompt)) for prompt in prompts]

    def forget(self) -> None:
        """What was kept is of no use any more."""
        self._kept.clear()

    def _requested(self, prompt: Prompt, outline: EncodedPrompt) -> RequestedPrompt:
        question, limits = prompt.question, self.encoder.limits
        images: list[ImageReference] = []
        videos: list[VideoReference] = []
        grids = {"image": iter(outline.images), "video": iter(outline.videos)}
        for media in question.media:
            _, grid = next(grids[media.kind])
            width, height = size = self._size(grid)
            frames = 1 if media.kind == "image" else int(grid[0]) * self._frames_a_patch
            self.server.require(question, media.kind, frames * width * height)
            if media.kind == "image":
                images.append(ImageReference(media.parts[0], size))
            else:
                videos.append(VideoReference(media, size, limits.max_frames, limits.video_fps))
        if len(videos) > 1:
            raise ModelError(
                f"Question `{question.id}` has {len(videos)} videos; student.engine=verl takes one "
                "a question."
            )
        ids = self._for_frames(prompt) if videos else outline.ids
        return RequestedPrompt(
            ids.astype(np.int32), prompt.prefix_ids, tuple(images), tuple(videos)
        )

    def _for_frames(self, prompt: Prompt) -> np.ndarray:
        """A server writes a video's frames, with their times, starts and ends, into the prompt by
        itself, in place of the video's placeholder. As old as transformers 5.9 it puts them in
        place of the start and end around that, too."""
        ids = self.encoder.unfilled(prompt)
        if not _keeps_start_and_end():
            return ids
        [at] = np.flatnonzero(ids == self.encoder.video_token)
        return np.delete(ids, [at - 1, at + 1])

    @property
    def _frames_a_patch(self) -> int:
        processor = self.encoder.image_processor
        return processor.temporal_patch_size if processor else 1

    def _size(self, grid: np.ndarray) -> tuple[int, int]:
        """Width and height of what a grid of patches covers."""
        patch = self.encoder.image_processor.patch_size if self.encoder.image_processor else 0
        return int(grid[2]) * patch, int(grid[1]) * patch

    def _outline(self, prompt: Prompt) -> EncodedPrompt:
        kept = self._kept.get(id(prompt))
        return self.encoder.outline(prompt) if kept is None else kept[1]


def prompt_row(encoder: PromptEncoder, prompt: Prompt, outline: EncodedPrompt) -> PromptRow:
    """A prompt as verl's trainer takes it; `outline` is the encoder's of it."""
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


def _keeps_start_and_end() -> bool:
    """vLLM asks the installed transformers the same."""
    ours = getattr(Qwen3VLProcessor, "replace_video_token", None)
    return ours is not None and ours is not getattr(ProcessorMixin, "replace_video_token", None)


def _video_bounds(path: str) -> tuple[int, int] | None:
    """The checkpoint's own bounds on frames * height * width; None where it has none written."""
    for name in ("video_preprocessor_config.json", "processor_config.json"):
        file = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
        tree = json.loads(Path(file).read_text()) if file else {}
        size = tree.get("video_processor", tree).get("size") or {}
        if "shortest_edge" in size and "longest_edge" in size:
            return size["shortest_edge"], size["longest_edge"]
    return None
