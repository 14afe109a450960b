"""Rotary position embeddings in three passes over a query or key, forward and backward.

transformers' function takes six, and its gradient more than twice as many. A rotation's gradient
is the rotation by the opposite angle.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_NAME = "apply_rotary_pos_emb"
#: Modeling code whose function of that name turns the two halves of a head's first entries.
_MODELS = ("llama", "mistral", "qwen2", "qwen3", "qwen3_5", "qwen3_vl", "smollm3")
_MODULES = {f"transformers.models.{name}.modeling_{name}" for name in _MODELS}


def use_fused_rotation(model: Any) -> None:
    """Make the modeling code of this model take it, in this process."""
    for name in {type(m).__module__ for m in model.modules()} & _MODULES:
        if hasattr(sys.modules[name], _NAME):
            setattr(sys.modules[name], _NAME, rotated)


def rotated(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """As transformers' `apply_rotary_pos_emb`."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotation.apply(q, cos, sin), _Rotation.apply(k, cos, sin)  # pyright: ignore[reportReturnType]


class _Rotation(torch.autograd.Function):
    """x (..., D) by angles (..., d), d <= D, whose second half repeats the first; entries past d
    stay as they are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    d = cos.shape[-1]
    h = d // 2
    out = x * cos if d == x.shape[-1] else x.clone()
    if d < x.shape[-1]:
        out[..., :d].mul_(cos)
    out[..., :h].addcmul_(x[..., h:d], sin[..., h:], value=-direction)
    out[..., h:d].addcmul_(x[..., :h], sin[..., :h], value=direction)
    return out
