"""How much memory a run needs, before it is asked for.

Weights, gradients and optimiser states follow from the number of parameters, which the headers
of a checkpoint tell without loading it. Activations depend on the model; the figure for them is
an estimate (one hidden state of each kind a layer keeps) and never refuses a run by itself.
"""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zppo.config import Config, LocalTeacherConfig, single_teachers
from zppo.errors import ModelError

GIB = 2**30
#: Hidden-sized activations that a decoder layer keeps a token for its backward pass.
_ACTIVATIONS_A_LAYER = 16


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by purpose. `certain` is what no setting of the sampler or batch size changes."""

    weights: int
    training: int  # gradients, fp32 masters and AdamW's two moments
    teacher: int
    judge: int
    activations: int

    @property
    def certain(self) -> int:
        return self.weights + self.training + self.teacher + self.judge

    @property
    def total(self) -> int:
        return self.certain + self.activations

    def __str__(self) -> str:
        return (
            f"{readable(self.total)} (weights {readable(self.weights)}, gradients and optimiser "
            f"{readable(self.training)}, teacher {readable(self.teacher)}, judge "
            f"{readable(self.judge)}, activations about {readable(self.activations)})"
        )


def require_memory(config: Config) -> None:
    """Raise `ModelError` when weights and optimiser alone exceed the memory there is. Says
    nothing about a model whose size is not known before it is downloaded."""
    estimate, available = estimate_memory(config), available_memory(config.student.device)
    if estimate is not None and available is not None and estimate.certain > available:
        raise ModelError(shortage(estimate.certain, available, config))


def shortage(needed: int, available: int, config: Config) -> str:
    """The message for too little memory, with what would help."""
    ideas = ["a smaller student.model"]
    if config.student.lora is None:
        ideas.insert(0, "student.lora.rank=16 (no optimiser states for the full model)")
    if config.student.dtype != "bf16":
        ideas.insert(1, "student.dtype=bf16")
    return (
        f"Training `{config.student.model}` needs about {readable(needed)} of memory and "
        f"{readable(available)} are free. What helps: {'; '.join(ideas)}."
    )


def estimate_memory(config: Config) -> MemoryEstimate | None:
    """The need of a run, None when the student is not on this disk."""
    folder = weights_folder(config.student.model)
    parameters = None if folder is None else count_parameters(folder)
    if folder is None or parameters is None:
        return None
    width = 2 if _is_bf16(config.student.dtype, config.student.device) else 4
    trainable = parameters if config.student.lora is None else _lora_parameters(folder, config)
    # AdamW keeps two moments, and a bf16 model an fp32 master of every weight it trains.
    states = 4 + 8 + (4 if width == 2 else 0)
    return MemoryEstimate(
        weights=parameters * width,
        training=trainable * states,
        teacher=sum(map(_local_bytes, single_teachers(config.teacher))),
        judge=_local_bytes(config.judge),
        activations=_activation_bytes(folder, config, width),
    )


def count_parameters(folder: Path) -> int | None:
    """Parameters of a checkpoint, from its safetensors headers; None where it has none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                if length > 100 * 2**20:  # the format's own limit
                    return None
                header = json.loads(stream.read(length))
        except (OSError, ValueError, struct.error):
            return None
        tensors = (item for name, item in header.items() if name != "__metadata__")
        total += sum(math.prod(item["shape"]) for item in tensors)
    return total or None


def available_memory(device: str) -> int | None:
    """Free bytes on the device (the GPU's if there is one and it is meant), None if unknown."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.mem_get_info()[0]
    limits = [n for n in (_system_memory(), _cgroup_memory()) if n is not None]
    return min(limits, default=None)


def _system_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _cgroup_memory() -> int | None:
    """What the container may still take: /proc/meminfo shows the whole machine's."""
    for root, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            allowed = int((Path(root) / limit).read_text())
            taken = int((Path(root) / used).read_text())
        except (OSError, ValueError):  # "max": no limit
            continue
        return max(allowed - taken, 0)
    return None


def _local_bytes(options: object) -> int:
    """Of a teacher or judge that lives in this process."""
    if not isinstance(options, LocalTeacherConfig):
        return 0
    folder = weights_folder(options.model)
    parameters = None if folder is None else count_parameters(folder)
    return (parameters or 0) * (2 if _is_bf16(options.dtype, options.device) else 4)


def _activation_bytes(folder: Path, config: Config, width: int) -> int:
    text = text_config(folder)
    hidden, layers = text.get("hidden_size", 0), text.get("num_hidden_layers", 0)
    tokens = config.student.micro_batch_tokens
    if config.student.gradient_checkpointing:
        kept = layers + _ACTIVATIONS_A_LAYER  # one input a layer, and one layer recomputed
    else:
        kept = layers * _ACTIVATIONS_A_LAYER
    logits = config.student.logprob_chunk_tokens * text.get("vocab_size", 0) * 4
    return tokens * hidden * kept * width + logits


def _lora_parameters(folder: Path, config: Config) -> int:
    """Adapters on the seven projections of each layer, as if all were as wide as the MLP."""
    assert config.student.lora is not None
    text = text_config(folder)
    hidden, wide = text.get("hidden_size", 0), text.get("intermediate_size", 0)
    return text.get("num_hidden_layers", 0) * 7 * config.student.lora.rank * (hidden + wide)


def text_config(folder: Path) -> dict[str, Any]:
    """The text part of a checkpoint's config, empty where it cannot be read."""
    try:
        tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree.get("text_config") or tree


def _is_bf16(dtype: str, device: str) -> bool:
    if dtype != "auto":
        return dtype == "bf16"
    if device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


def weights_folder(model: str) -> Path | None:
    """Where the weights lie, None when they have yet to be downloaded (or are a GGUF file)."""
    from zppo.student.loading import resolve_path

    try:
        path, gguf = resolve_path(model)
    except FileNotFoundError:
        return None
    return Path(path) if gguf is None and Path(path).is_dir() else None


def readable(size: int) -> str:
    """A size in GiB or MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"
