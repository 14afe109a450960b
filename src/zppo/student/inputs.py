"""From a `Prompt` to what the model's forward takes, for text models and the Qwen-VL family.

Images go through the checkpoint's own image processor, video frames through `zppo.student.video`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
import torch
from torch import Tensor

from zppo.config import DataConfig
from zppo.errors import DataError, ModelError
from zppo.student.pixels import load_pixels
from zppo.student.recent import Recent
from zppo.student.visual import (
    END,
    IMAGE_PAD,
    START,
    VIDEO_PAD,
    Visual,
    VisualLimits,
    grid,
    measure,
    within,
)
from zppo.types import GroupKind, Prompt, Question

TEXT, IMAGE, VIDEO = 0, 1, 2
#: Of the prompts encoded last, pixels included: a step's, unless they are many or large.
KEPT_BYTES = 64 * 2**20


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

    @property
    def bytes(self) -> int:
        patches = (array for array, _ in (*self.images, *self.videos))
        return self.ids.nbytes + self.types.nbytes + sum(array.nbytes for array in patches)


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
        """The prompts of `rows` (R,), repeated as often as they are named, without the columns
        that all of them pad."""
        mask = self.mask.index_select(0, rows)
        used = slice(mask.shape[1] - int(mask.sum(-1).max()), None)
        return PromptBatch(
            ids=self.ids.index_select(0, rows)[:, used],
            types=self.types.index_select(0, rows)[:, used],
            mask=mask[:, used],
            positions=self.positions.index_select(-2, rows)[..., used],
            next_position=self.next_position.index_select(0, rows),
            media=tuple(self.media[i] for i in rows.tolist()),
        )

    def packed_with(self, tokens: Tensor, positions: Tensor) -> dict[str, Any]:
        """Model inputs of one row: all prompts without their padding, then `tokens` (N,) at
        `positions` (1, N), or (3, 1, N)."""
        own = self.mask.bool()
        inputs = self._pixels()
        if "mm_token_type_ids" in inputs:
            types = torch.cat([self.types[own], torch.zeros_like(tokens)])
            inputs["mm_token_type_ids"] = types[None]
        of_prompts = self.positions[..., own].unsqueeze(-2)
        inputs["input_ids"] = torch.cat([self.ids[own], tokens])[None]
        inputs["position_ids"] = torch.cat([of_prompts, positions], dim=-1)
        return inputs

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
        visual_tokens: int | None = None,
        workers: int = 1,
        template_arguments: Mapping[str, Any] | None = None,
    ):
        """`visual_tokens` bounds those of a reformulated prompt; `workers` threads decode and
        patch the media of `encode_all`; `template_arguments` go to the chat template."""
        self.tokenizer = tokenizer
        self.template_arguments = dict(template_arguments or {})
        self.image_processor = image_processor
        self.limits = VisualLimits(video_fps, max_frames, video_max_pixels, visual_tokens)
        self.workers = workers
        self._recent = Recent[EncodedPrompt](KEPT_BYTES)
        config = model.config
        self.image_token: int | None = getattr(config, "image_token_id", None)
        self.video_token: int | None = getattr(config, "video_token_id", None)
        #: Vision token ids: a model must never sample them.
        self.placeholder_ids = self._vision_tokens()
        #: The submodule that knows multimodal rotary positions, None for text models.
        self.rope = _rope_owner(model)
        #: What messages call the model.
        self.name: str = getattr(config, "_name_or_path", "") or config.model_type
        self.model_type: str = config.model_type
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                f"The tokenizer of `{self.name}` has no chat template; use an instruction-tuned "
                "checkpoint, or for a student set student.chat_template to a Jinja file."
            )
        try:
            self._render("A question.")
        except jinja2.TemplateError as error:
            raise ModelError(f"The chat template of `{self.name}` fails: {error}") from None

    @classmethod
    def configured(
        cls,
        tokenizer: Any,
        model: Any,
        image_processor: Any | None,
        data: DataConfig,
        visual_tokens: int | None = None,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> PromptEncoder:
        """One that keeps media within the bounds of `data`. Raises `ModelError`."""
        return cls(
            tokenizer,
            model,
            with_pixel_limits(image_processor, data),
            video_fps=data.video_fps,
            max_frames=data.max_frames,
            video_max_pixels=data.video_max_pixels,
            visual_tokens=visual_tokens,
            workers=data.workers,
            template_arguments=template_arguments,
        )

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Raises `DataError` when the text contains a placeholder token or a file is unusable,
        `ModelError` when the model cannot take the question's media."""
        kept = self._recent.get(prompt)
        if kept is None:
            kept = self._encode(prompt)
            self._recent.put(prompt, kept, kept.bytes)
        return kept

    def _encode(self, prompt: Prompt) -> EncodedPrompt:
        self._refuse_placeholders(prompt)
        media = prompt.question.media
        if not media:
            ids = self._ids(self._render(prompt.text)) + list(prompt.prefix_ids)
            return EncodedPrompt(np.asarray(ids), np.zeros(len(ids), dtype=np.int64))
        self.refuse_media(prompt.question)
        with _naming(prompt.question):
            made = [
                load_pixels(m, self.image_processor, self.limits, cap)
                for m, cap in zip(media, self.caps(prompt), strict=True)
            ]
        pixels = [(patches, grid) for patches, grid, _ in made]
        return self._with_media(prompt, [visual for _, _, visual in made], pixels)

    def outline(self, prompt: Prompt) -> EncodedPrompt:
        """`encode` with no patches: ids, types and grids from the headers of the media alone, for
        an engine that decodes pixels elsewhere. Raises what `length` raises."""
        media = prompt.question.media
        if not media:
            return self.encode(prompt)
        visuals = self._measured(prompt)
        none = np.empty((0, 0), dtype=np.float32)
        with _naming(prompt.question):
            grids = [
                grid(m, visual, self.image_processor, self.limits, cap)
                for m, visual, cap in zip(media, visuals, self.caps(prompt), strict=True)
            ]
        return self._with_media(prompt, visuals, [(none, shape) for shape in grids])

    def unfilled(self, prompt: Prompt) -> np.ndarray:
        """Token ids (P,) with one placeholder for each image or video, as the chat template writes
        them, for a server that fills its own tokens in. Raises `DataError` when the text itself
        contains one."""
        self._refuse_placeholders(prompt)
        ids = self._ids(self._render(_content(prompt)))
        return np.asarray(ids + list(prompt.prefix_ids))

    def _with_media(
        self,
        prompt: Prompt,
        visuals: Sequence[Visual],
        pixels: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> EncodedPrompt:
        # One token for each image or frame, repeated afterwards: they are slow to tokenise.
        text = self._filled(prompt, visuals, tokens=1)
        ids = np.asarray(self._ids(text) + list(prompt.prefix_ids))
        types = np.where(
            ids == self.image_token, IMAGE, np.where(ids == self.video_token, VIDEO, TEXT)
        )
        counts = np.ones_like(ids)
        for kind, name in ((IMAGE, "image"), (VIDEO, "video")):
            counts[types == kind] = [
                visual.tokens
                for visual, m in zip(visuals, prompt.question.media, strict=True)
                if m.kind == name
                for _ in range(visual.frames)
            ]
        ids, types = np.repeat(ids, counts), np.repeat(types, counts)
        images, videos = (
            tuple(p for p, m in zip(pixels, prompt.question.media, strict=True) if m.kind == kind)
            for kind in ("image", "video")
        )
        return EncodedPrompt(ids, types, images, videos)

    def encode_all(self, prompts: Sequence[Prompt]) -> list[EncodedPrompt]:
        """`encode` of each, media decoded in threads. Raises what it raises."""
        if self.workers == 1 or sum(bool(p.question.media) for p in prompts) < 2:
            return [self.encode(prompt) for prompt in prompts]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="zppo-media") as pool:
            return list(pool.map(self.encode, prompts))

    def length(self, prompt: Prompt) -> int:
        """Tokens of the encoded prompt, visual ones included, without decoding its media. Raises
        what `encode` raises of what shows without decoding."""
        kept = self._recent.get(prompt)
        if kept is not None:
            return len(kept)
        if not prompt.question.media:
            return len(self.encode(prompt))
        visuals = self._measured(prompt)
        text = self._filled(prompt, visuals, tokens=1)
        rest = sum(visual.total - visual.frames for visual in visuals)
        return len(self._ids(text)) + len(prompt.prefix_ids) + rest

    def rendered(self, prompt: Prompt) -> str:
        """The prompt as text, with one token for each image or frame. Raises what `length`
        raises."""
        if not prompt.question.media:
            return self._render(prompt.text)
        return self._filled(prompt, self._measured(prompt), tokens=1)

    def _measured(self, prompt: Prompt) -> list[Visual]:
        """The size of each of the prompt's media, from headers alone."""
        self._refuse_placeholders(prompt)
        self.refuse_media(prompt.question)
        with _naming(prompt.question):
            return [
                measure(m, self.image_processor, self.limits, cap)
                for m, cap in zip(prompt.question.media, self.caps(prompt), strict=True)
            ]

    def caps(self, prompt: Prompt) -> list[int | None]:
        """Pixels that each of the prompt's media must keep within; None: the usual ones."""
        media, budget = prompt.question.media, self.limits.visual_tokens
        if budget is None or prompt.kind not in _REFORMULATED:
            return [None] * len(media)
        return within(budget, media, self.image_processor, self.limits)

    def _filled(self, prompt: Prompt, visuals: Sequence[Visual], tokens: int | None = None) -> str:
        """The rendered prompt with its media's tokens in place, or `tokens` for each frame."""
        media = prompt.question.media
        text = self._render(_content(prompt))
        for kind, placeholder in (("image", IMAGE_PAD), ("video", START + VIDEO_PAD + END)):
            fillings = [
                visual.filling(tokens)
                for visual, m in zip(visuals, media, strict=True)
                if m.kind == kind
            ]
            text = _fill(text, placeholder, fillings, prompt.question)
        return text

    def _refuse_placeholders(self, prompt: Prompt) -> None:
        if self.image_token is not None and (IMAGE_PAD in prompt.text or VIDEO_PAD in prompt.text):
            raise DataError(
                f"Question `{prompt.question.id}`: its text contains an image or video "
                "placeholder token."
            )

    def refuse_media(self, question: Question) -> None:
        """Raise `ModelError` when the model cannot take the question's media."""
        if not question.media:
            return
        kinds = sorted({f"{m.kind}s" for m in question.media})
        if self.image_processor is None or self.image_token is None:
            reason = "is a text model"
        elif not hasattr(self.image_processor, "merge_size") or self.rope is None:
            reason = "is not of the Qwen-VL family, the only one whose media are supported"
        elif "videos" in kinds and self.model_type.startswith("qwen2"):
            reason = "takes videos in a form that is not supported; Qwen3-VL and later do"
        else:
            return
        raise ModelError(
            f"Question `{question.id}` has {' and '.join(kinds)}, but `{self.name}` {reason}. Use "
            "another checkpoint or another data set."
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

    def _vision_tokens(self) -> list[int]:
        if self.image_token is None:
            return []
        vocab = self.tokenizer.get_vocab()
        ids = {self.image_token, self.video_token, vocab.get(START), vocab.get(END)}
        return sorted(i for i in ids if i is not None)

    def _render(self, content: str | list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            **self.template_arguments,
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def with_pixel_limits(processor: Any | None, config: DataConfig) -> Any | None:
    """`processor`, changed to keep images within the pixel bounds of `config`."""
    if processor is not None:
        limits = {"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels}
        processor.size = type(processor.size)(**limits)
    return processor


_REFORMULATED = (GroupKind.BCQ, GroupKind.NCQ, GroupKind.HINT)


def _content(prompt: Prompt) -> list[dict[str, str]]:
    """The user turn for a chat template: media first."""
    media = [{"type": m.kind} for m in prompt.question.media]
    return [*media, {"type": "text", "text": prompt.text}]


@contextmanager
def _naming(question: Question) -> Iterator[None]:
    try:
        yield
    except (DataError, ValueError) as error:  # ValueError: the processor on extreme shapes
        raise DataError(f"Question `{question.id}`: {error}") from None


def _fill(text: str, placeholder: str, fillings: Sequence[str], question: Question) -> str:
    """`text` with each placeholder replaced by its filling, in order."""
    parts = text.split(placeholder)
    if len(parts) != len(fillings) + 1:
        raise ModelError(
            f"Question `{question.id}`: the chat template shows {len(parts) - 1} images or videos "
            f"of {len(fillings)}; the model's template does not support its media."
        )
    return parts[0] + "".join(f + part for f, part in zip(fillings, parts[1:], strict=True))


def _rope_owner(model: Any) -> Any | None:
    return next((m for m in model.modules() if hasattr(m, "get_rope_index")), None)
