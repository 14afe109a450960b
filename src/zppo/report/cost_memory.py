"""Whether a run fits into a GPU, before one is rented."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zppo.config import Config, LocalTeacherConfig, single_teachers
from zppo.report.cost_config import model_folder
from zppo.runs.memory import estimate_memory

#: Peaks were measured up to a quarter above the estimate (allocator's gaps, kernels' work space).
MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class Shape:
    """What activations and cache depend on. `cache_width` is key/value heads times their size,
    `cached_layers` the layers that keep keys and values (linear attention keeps none)."""

    hidden: float
    layers: float
    cached_layers: float
    cache_width: float
    vocabulary: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by purpose. `guessed` says that the model's shape was made up from its size."""

    weights: float
    training: float
    teacher: float
    activations: float
    cache: float
    guessed: bool

    @property
    def peak(self) -> float:
        """Sampling and updating take turns, so the larger of cache and activations counts."""
        return self.weights + self.training + self.teacher + max(self.activations, self.cache)

    def verdict(self, available: float) -> str:
        """`fits`, `tight` (only if the estimate holds to the byte) or `does not fit`."""
        if self.peak > available:
            return "does not fit"
        return "fits" if MARGIN * self.peak <= available else "tight"


def predict_memory(config: Config, student_params: float, teacher_params: float) -> Memory:
    """The embedded engine's need on one GPU; `auto` types are bf16 there.

    A local teacher shares the GPU, one behind a server does not. Where the student's checkpoint is
    on this disk its own shape is used, otherwise that of a usual model of `student_params`.
    """
    if config.student.dtype == "auto":
        student = config.student.model_copy(update={"dtype": "bf16"})
        config = config.model_copy(update={"student": student})
    width = 2 if config.student.dtype == "bf16" else 4
    folder = model_folder(config.student.model)
    shape = shape_of(folder) if folder else guess_shape(student_params)
    local = [t for t in single_teachers(config.teacher) if isinstance(t, LocalTeacherConfig)]
    estimate = estimate_memory(config) if folder else None
    if estimate is not None:
        weights, training = float(estimate.weights), float(estimate.training)
        activations = float(estimate.activations)
    else:
        weights = student_params * width
        training = _trained(config, student_params, shape) * (16 if width == 2 else 12)
        activations = _activations(config, shape, width)
    held = config.student.sampler_batch_tokens
    return Memory(
        weights,
        training,
        max((teacher_params * (4 if t.dtype == "fp32" else 2) for t in local), default=0.0),
        activations,
        2 * held * shape.cached_layers * shape.cache_width * width,
        guessed=estimate is None,
    )


def shape_of(folder: Path) -> Shape:
    """The shape a checkpoint's config.json states."""
    tree: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    text: dict[str, Any] = tree.get("text_config") or tree
    heads = text.get("num_attention_heads", 1)
    size = text.get("head_dim") or text["hidden_size"] / heads
    kinds = text.get("layer_types") or ["full_attention"] * text["num_hidden_layers"]
    return Shape(
        text["hidden_size"],
        text["num_hidden_layers"],
        sum(kind != "linear_attention" for kind in kinds),
        text.get("num_key_value_heads", heads) * size,
        text["vocab_size"],
    )


def guess_shape(params: float) -> Shape:
    """A usual decoder of that size: 12 L h^2 parameters with h = 80 L, a key/value width of h / 4
    in every layer, 150,000 tokens."""
    layers = (params / (12 * 80**2)) ** (1 / 3)
    hidden = 80 * layers
    return Shape(hidden, layers, layers, hidden / 4, 150_000)


def _trained(config: Config, params: float, shape: Shape) -> float:
    """Trained parameters: all, or seven adapters a layer, as wide as an MLP of 4 h."""
    if config.student.lora is None:
        return params
    return shape.layers * 7 * config.student.lora.rank * 5 * shape.hidden


def _activations(config: Config, shape: Shape, width: int) -> float:
    """As `runs/memory.py` counts them, for a checkpoint that is not here to be read."""
    student = config.student
    kept = shape.layers + 16 if student.gradient_checkpointing else 16 * shape.layers
    logits = student.logprob_chunk_tokens * shape.vocabulary * 4
    return student.micro_batch_tokens * shape.hidden * kept * width + logits
