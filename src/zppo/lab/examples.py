"""Training examples for the lab's models: prompt, media patches and the response to learn.

Patches are put together from ready-made cells instead of drawing, encoding and decoding a PNG an
example; `tests/lab` checks that both ways give the same numbers.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zppo.algorithm.prompts import Templates
from zppo.lab import puzzles
from zppo.lab.models import image_processor
from zppo.teacher.scripted import compress
from zppo.types import Question

TEXT, IMAGE, VIDEO = 0, 1, 2
IGNORE = -100
#: Where a student with the habit of recipe `habit` stops.
HABIT_DIGITS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """ids (T,), of which the last `response` tokens are learnt; patches (4 * cells, d)."""

    ids: list[int]
    response: int
    types: list[int]
    patches: np.ndarray | None = None
    frames: int = 0  # 0: an image, if there are patches


#: A puzzle as training needs it: the digits, without a picture.
@dataclass(frozen=True, slots=True)
class Puzzle:
    family: str
    digits: tuple[int, ...]

    @property
    def question(self) -> Question:
        text = puzzles.TEXTS[self.family].format(digits="".join(map(str, self.digits)))
        return Question(id="", text=text, answer=str(sum(self.digits)), reference=self.worked)

    @property
    def worked(self) -> str:
        return puzzles.response(puzzles.trace(self.digits), sum(self.digits))

    @property
    def habit(self) -> str:
        """A chain that stops too early, as if `HABIT_DIGITS` were all: a fault of choice, since
        each of its steps is right."""
        digits = self.digits[:HABIT_DIGITS]
        return puzzles.response(puzzles.trace(digits), sum(digits))


@dataclass(slots=True)
class ExampleMaker:
    """Renders puzzles as examples for one tokenizer."""

    tokenizer: Any
    templates: Templates = field(default_factory=Templates.default)
    cells: Mapping[tuple[int, int], np.ndarray] = field(default_factory=lambda: cell_patches())

    def caption(self, puzzle: Puzzle, rng: random.Random) -> Example:
        """Reading alone: the digits in order."""
        prompt = f"Read the digits in the {puzzle.family}."
        return self._example(puzzle, prompt, "".join(map(str, puzzle.digits)), rng)

    def plain(self, puzzle: Puzzle, rng: random.Random) -> Example:
        return self._example(puzzle, self.templates.plain(puzzle.question), puzzle.worked, rng)

    def habit(self, puzzle: Puzzle, rng: random.Random) -> Example:
        """A plain prompt answered out of habit."""
        return self._example(puzzle, self.templates.plain(puzzle.question), puzzle.habit, rng)

    def bcq(
        self, puzzle: Puzzle, wrong: str | None, rng: random.Random, target: str | None = None
    ) -> Example:
        """Without `wrong` the right candidate stands there twice: the first thing to learn."""
        candidates = [compress(puzzle.worked), compress(wrong or puzzle.worked)]
        rng.shuffle(candidates)
        prompt = self.templates.bcq(puzzle.question, candidates)
        return self._example(puzzle, prompt, target or puzzle.worked, rng)

    def ncq(
        self, puzzle: Puzzle, wrong: Sequence[str], rng: random.Random, target: str | None = None
    ) -> Example:
        answers = list(dict.fromkeys(a for a in map(boxed, wrong) if a))
        prompt = self.templates.ncq(puzzle.question, answers, [compress(w) for w in wrong])
        return self._example(puzzle, prompt, target or puzzle.worked, rng)

    def _example(self, puzzle: Puzzle, prompt: str, response: str, rng: random.Random) -> Example:
        media, types = self._placeholders(puzzle)
        head = self._ids("<|im_start|>user\n")
        tail = self._ids(f"{prompt}<|im_end|>\n<|im_start|>assistant\n")
        target = self._ids(f"{response}<|im_end|>")
        kinds = [TEXT] * len(head) + types + [TEXT] * (len(tail) + len(target))
        return Example(
            ids=[*head, *media, *tail, *target],
            response=len(target),
            types=kinds,
            patches=self._patches(puzzle, rng),
            frames=puzzles.FRAMES if puzzle.family == "video" else 0,
        )

    def _placeholders(self, puzzle: Puzzle) -> tuple[list[int], list[int]]:
        if puzzle.family == "text":
            return [], []
        if puzzle.family == "image":
            text = f"<|vision_start|>{'<|image_pad|>' * len(puzzle.digits)}<|vision_end|>"
        else:
            cells = "<|video_pad|>" * (len(puzzle.digits) // puzzles.FRAMES)
            text = "".join(
                f"<{t / puzzles.VIDEO_FPS:.1f} seconds><|vision_start|>{cells}<|vision_end|>"
                for t in range(puzzles.FRAMES)
            )
        ids = self._ids(text)
        kind_of = {self._ids("<|image_pad|>")[0]: IMAGE, self._ids("<|video_pad|>")[0]: VIDEO}
        return ids, [kind_of.get(i, TEXT) for i in ids]

    def _patches(self, puzzle: Puzzle, rng: random.Random) -> np.ndarray | None:
        if puzzle.family == "text":
            return None
        styles = len(self.cells) // 10
        return np.concatenate([self.cells[d, rng.randrange(styles)] for d in puzzle.digits])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids


def boxed(response: str) -> str | None:
    """The content of the last box of a lab response (no nested braces there)."""
    tail = response.rpartition("\\boxed{")[2] if "\\boxed{" in response else ""
    return tail.partition("}")[0] or None


def cell_patches() -> dict[tuple[int, int], np.ndarray]:
    """The four patches of a cell by (digit, colour scheme), as the image processor makes them."""
    processor = image_processor()
    schemes = [(a, b) for d in puzzles.DARK for p in puzzles.LIGHT for a, b in ((d, p), (p, d))]
    cells: dict[tuple[int, int], np.ndarray] = {}
    for digit in range(10):
        images = [
            Image.open(io.BytesIO(puzzles.cells_png((digit,), (scheme,)))).convert("RGB")
            for scheme in schemes
        ]
        patches = processor(images, return_tensors="np")["pixel_values"].reshape(
            len(schemes), 4, -1
        )
        cells |= {(digit, i): np.asarray(p, np.float32) for i, p in enumerate(patches)}
    return cells


# --- batches -----------------------------------------------------------------------------------


def collate(examples: Sequence[Example], pad: int) -> tuple[dict[str, Any], Tensor]:
    """Model inputs of right-padded rows (right padding is exact in a forward pass), and labels
    (B, T) that are already shifted: labels[t] is the token after position t."""
    width = max(len(e.ids) for e in examples)
    ids = np.full((len(examples), width), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORE)
    positions = np.zeros((3, *ids.shape), dtype=np.int64)
    for row, e in enumerate(examples):
        n = len(e.ids)
        ids[row, :n] = e.ids
        mask[row, :n] = 1
        labels[row, n - e.response - 1 : n - 1] = e.ids[n - e.response :]
        positions[:, row, :n] = rotary_positions(e.types)
    inputs: dict[str, Any] = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "position_ids": torch.from_numpy(positions),
    }
    images = [e for e in examples if e.patches is not None and not e.frames]
    videos = [e for e in examples if e.patches is not None and e.frames]
    for name, grid, some in (
        ("pixel_values", "image_grid_thw", images),
        ("pixel_values_videos", "video_grid_thw", videos),
    ):
        if some:
            inputs[name] = torch.from_numpy(np.concatenate([_pixels(e) for e in some]))
            inputs[grid] = torch.tensor([_grid(e) for e in some])
    return inputs, torch.from_numpy(labels)


def _pixels(e: Example) -> np.ndarray:
    assert e.patches is not None
    return e.patches


def _grid(e: Example) -> tuple[int, int, int]:
    frames = max(e.frames, 1)
    return frames, 2, 2 * (len(_pixels(e)) // 4 // frames)


def rotary_positions(types: Sequence[int]) -> np.ndarray:
    """(3, T) time, height and width of each token, for pictures that are one row of cells: only
    the width grows inside a picture, and the text after it goes on behind the widest."""
    out = np.tile(np.arange(len(types)), (3, 1))
    start = 0
    for i, kind in enumerate(types):
        if kind != TEXT:
            start = i if i == 0 or types[i - 1] == TEXT else start
            out[:2, i] = start
    return out
