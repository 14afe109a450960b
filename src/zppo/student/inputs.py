"""From a `Prompt` to what the model's forward takes, for text models and the Qwen-VL family.

Images go through the checkpoint's own image processor. Video frames are patched here, because the
library's video processor needs torchvision, whose wheels do not fit a CPU build of torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zppo.data.media import load_frames, load_image
from zppo.errors import DataError, ModelError
from zppo.types import Media, Prompt

TEXT, IMAGE, VIDEO = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPrompt:
    """One prompt as token ids and pixel patches.

    ids     (P,) int64
    types   (P,) int64: 0 text, 1 image, 2 video
    images  list of (patches (n, d) float32, grid (3,) int64)
    videos  likewise
    """

    ids: np.ndarray
    types: np.ndarray
    images: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    videos: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class PromptBatch:
    """B left-padded prompts of P columns.

    ids, types, mask   (B, P)
    positions          (B, P), or (3, B, P) for multimodal rotary embeddings
    next_position      (B,), the position of the first response token
    media              per prompt: its pixel tensors, so that rows can be selected
    """

    ids: Tensor
    types: Tensor
    mask: Tensor
    positions: Tensor
    next_position: Tensor
    media: tuple[EncodedPrompt, ...] = field(repr=False)

    def model_inputs(self) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            "position_ids": self.positions,
        }
        return inputs | self._pixels()

    def _pixels(self) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for name, grid_name, items in (
            ("pixel_values", "image_grid_thw", [x for m in self.media for x in m.images]),
            ("pixel_values_videos", "video_grid_thw", [x for m in self.media for x in m.videos]),
        ):
            if items:
                device = self.ids.device
                inputs[name] = torch.from_numpy(np.concatenate([p for p, _ in items])).to(device)
                inputs[grid_name] = torch.from_numpy(np.stack([g for _, g in items])).to(device)
        if inputs:
            inputs["mm_token_type_ids"] = self.types
        return inputs

    def next_positions(self, rows: Tensor, steps: Tensor) -> Tensor:
        """Positions of response tokens `steps` (T,) for responses of prompts `rows` (R,):
        (R, T), or (3, R, T)."""
        positions = self.next_position.index_select(0, rows)[:, None] + steps
        return positions.expand(3, -1, -1) if self.positions.ndim == 3 else positions

    def select(self, rows: Tensor) -> PromptBatch:
        """The prompts of `rows` (R,), repeated as often as they are named."""
        return PromptBatch(
            ids=self.ids.index_select(0, rows),
            types=self.types.index_select(0, rows),
            mask=self.mask.index_select(0, rows),
            positions=self.positions.index_select(-2, rows),
            next_position=self.next_position.index_select(0, rows),
            media=tuple(self.media[i] for i in rows.tolist()),
        )

    def followed_by(self, responses: Tensor, response_mask: Tensor) -> dict[str, Any]:
        """Model inputs of plain rows `[left pad | prompt | response | right pad]`; one response
        (B, T) a prompt."""
        rows = torch.arange(len(self.ids), device=self.ids.device)
        steps = torch.arange(responses.shape[1], device=self.ids.device)
        inputs = self.model_inputs()
        inputs["input_ids"] = torch.cat([self.ids, responses], dim=1)
        inputs["attention_mask"] = torch.cat([self.mask, response_mask], dim=1)
        inputs["position_ids"] = torch.cat(
            [self.positions, self.next_positions(rows, steps)], dim=-1
        )
        if "mm_token_type_ids" in inputs:
            inputs["mm_token_type_ids"] = torch.cat(
                [self.types, torch.zeros_like(responses)], dim=1
            )
        return inputs


class PromptEncoder:
    """Renders chat templates and media for one model."""

    def __init__(
        self,
        tokenizer: Any,
        model: Any,
        image_processor: Any | None = None,
        video_fps: float = 2.0,
        max_frames: int = 64,
        video_max_pixels: int | None = None,
    ):
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.video_fps, self.max_frames = video_fps, max_frames
        self.video_max_pixels = video_max_pixels
        config = model.config
        self.image_token: int | None = getattr(config, "image_token_id", None)
        self.video_token: int | None = getattr(config, "video_token_id", None)
        #: The submodule that knows multimodal rotary positions, None for text models.
        self.rope = _rope_owner(model)
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                "The student's tokenizer has no chat template; set student.chat_template to a "
                "Jinja file, or use an instruction-tuned checkpoint."
            )

    @property
    def placeholder_ids(self) -> list[int]:
        """Vision token ids: a model must never sample them."""
        if self.image_token is None:
            return []
        names = ("<|vision_start|>", "<|vision_end|>")
        vocab = self.tokenizer.get_vocab()
        ids = {self.image_token, self.video_token, *(vocab.get(n) for n in names)}
        return sorted(i for i in ids if i is not None)

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Raises `DataError` when media and placeholders do not match or a file is unusable,
        `ModelError` when a text model is given media."""
        media = prompt.question.media
        if not media:
            ids = self._ids(self._render(prompt.text)) + list(prompt.prefix_ids)
            return EncodedPrompt(np.asarray(ids), np.zeros(len(ids), dtype=np.int64))
        if self.image_processor is None or self.image_token is None:
            raise ModelError(
                f"Question `{prompt.question.id}` has {media[0].kind}s but the student is a text "
                "model; use a vision-language checkpoint or a text data set."
            )
        content = [{"type": m.kind} for m in media] + [{"type": "text", "text": prompt.text}]
        text = self._render(content)
        images = [self._image(m) for m in media if m.kind == "image"]
        videos = [self._video(m) for m in media if m.kind == "video"]
        merge = self.image_processor.merge_size**2
        for patches, _ in images:
            text = _replace_once(text, _IMAGE, _IMAGE_MARK * (len(patches) // merge), prompt)
        for patches, grid, times in videos:
            per_frame = len(patches) // merge // int(grid[0])
            frames = "".join(
                f"<{t:.1f} seconds>{_START}{_VIDEO_MARK * per_frame}{_END}" for t in times
            )
            text = _replace_once(text, _START + _VIDEO + _END, frames, prompt)
        if _IMAGE in text or _VIDEO in text:
            raise DataError(
                f"Question `{prompt.question.id}`: its text contains an image or video "
                "placeholder token."
            )
        text = text.replace(_IMAGE_MARK, _IMAGE).replace(_VIDEO_MARK, _VIDEO)
        ids = np.asarray(self._ids(text) + list(prompt.prefix_ids))
        types = np.where(
            ids == self.image_token, IMAGE, np.where(ids == self.video_token, VIDEO, TEXT)
        )
        return EncodedPrompt(
            ids, types, tuple(images), tuple((patches, grid) for patches, grid, _ in videos)
        )

    def collate(self, prompts: Sequence[EncodedPrompt], device: torch.device | str) -> PromptBatch:
        """Left-pad B prompts to the longest."""
        width = max(len(p) for p in prompts)
        ids = np.full((len(prompts), width), self.tokenizer.pad_token_id, dtype=np.int64)
        types = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            start = width - len(prompt)
            ids[row, start:], types[row, start:], mask[row, start:] = prompt.ids, prompt.types, 1
        ids_BP, types_BP, mask_BP = (torch.from_numpy(x).to(device) for x in (ids, types, mask))
        positions, next_position = self._positions(prompts, ids_BP, types_BP, mask_BP)
        return PromptBatch(ids_BP, types_BP, mask_BP, positions, next_position, tuple(prompts))

    def _positions(
        self, prompts: Sequence[EncodedPrompt], ids: Tensor, types: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        lengths = mask.sum(-1)
        if self.rope is None:
            return (mask.cumsum(-1) - 1).clamp(min=0), lengths
        if not any(p.images or p.videos for p in prompts):
            return (mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1), lengths
        grids = {
            name: torch.from_numpy(np.stack(items)).to(ids.device) if items else None
            for name, items in (
                ("image_grid_thw", [g for p in prompts for _, g in p.images]),
                ("video_grid_thw", [g for p in prompts for _, g in p.videos]),
            )
        }
        positions, deltas = self.rope.get_rope_index(
            ids, mm_token_type_ids=types, attention_mask=mask, **grids
        )
        return positions, lengths + deltas.squeeze(-1)

    def _render(self, content: str | list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _image(self, media: Media) -> tuple[np.ndarray, np.ndarray]:
        out = self.image_processor(images=[load_image(media.parts[0])], return_tensors="np")  # pyright: ignore[reportOptionalCall]
        return out["pixel_values"].astype(np.float32), out["image_grid_thw"][0].astype(np.int64)

    def _video(self, media: Media) -> tuple[np.ndarray, np.ndarray, list[float]]:
        frames, times = load_frames(media, max_frames=self.max_frames, fps=self.video_fps)
        p = self.image_processor
        patches, grid = patch_video(frames, p, self.video_max_pixels)
        step = p.temporal_patch_size  # pyright: ignore[reportOptionalMemberAccess]
        times = times + times[-1:] * (-len(times) % step)
        # Frames merged into one temporal patch share the mean of the first and last time.
        return (
            patches,
            grid,
            [(times[i] + times[i + step - 1]) / 2 for i in range(0, len(times), step)],
        )


def patch_video(
    frames: Sequence[Image.Image], processor: Any, max_pixels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel patches of a video as Qwen3-VL's processor makes them.

    `frames` share one size. `max_pixels` bounds frames * height * width; None: the image
    processor's `size.longest_edge` a frame. Returns patches (t*h*w, C*tp*p*p) and grid (t, h, w).
    """
    p, m, tp = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    width, height = frames[0].size
    count = math.ceil(len(frames) / tp) * tp
    limit = max_pixels or processor.size["longest_edge"] * count
    floor = processor.size["shortest_edge"]
    height, width = _fit(height, width, count, p * m, floor, limit)
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


def _fit(
    height: int, width: int, count: int, factor: int, floor: int, limit: int
) -> tuple[int, int]:
    """Nearest size divisible by `factor` whose volume count*h*w lies in [floor, limit]."""
    h, w = (max(factor, round(x / factor) * factor) for x in (height, width))
    if count * h * w > limit:
        scale = math.sqrt(count * height * width / limit)
        h, w = (max(factor, math.floor(x / scale / factor) * factor) for x in (height, width))
    elif count * h * w < floor:
        scale = math.sqrt(floor / (count * height * width))
        h, w = (math.ceil(x * scale / factor) * factor for x in (height, width))
    return h, w


_START, _END = "<|vision_start|>", "<|vision_end|>"
_IMAGE, _VIDEO = "<|image_pad|>", "<|video_pad|>"
# Private-use characters stand for placeholders while the text is assembled.
_IMAGE_MARK, _VIDEO_MARK = "\ue000", "\ue001"


def _replace_once(text: str, old: str, new: str, prompt: Prompt) -> str:
    if old not in text:
        raise ModelError(
            f"Question `{prompt.question.id}`: the chat template shows fewer images or videos "
            "than the question has; the model's template does not support its media."
        )
    return text.replace(old, new, 1)


def _rope_owner(model: Any) -> Any | None:
    return next((m for m in model.modules() if hasattr(m, "get_rope_index")), None)
