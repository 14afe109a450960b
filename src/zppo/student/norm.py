"""RMS norms whose gradient is one pass of torch's layer-norm kernel.

transformers writes the norm as half a dozen operations; their gradients are a dozen passes, each
through memory where a batch of tokens is larger than the cache. torch has a kernel for the
gradient of a layer norm, which for a mean of zero is that of an RMS norm but for one term, what
flows through the mean: a product and a pass put it back. A norm of 11,360 x 96, forward and
backward: 7.8 to 1.3 ms on one core (benchmarks/notes.md).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: The weight of these is relative to one.
_ABOVE_ONE = {"Qwen3_5RMSNorm"}
_PLAIN = {
    *("LlamaRMSNorm", "MistralRMSNorm", "SmolLM3RMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"),
    *("Qwen2VLRMSNorm", "Qwen2_5_VLRMSNorm", "Qwen3VLTextRMSNorm"),
}


def use_fused_norms(model: Any) -> None:
    """Replace the forward of a model's RMS norms, where they are of a kind known here."""
    for module in model.modules():
        name = type(module).__name__
        if name in _PLAIN:
            module.forward = MethodType(_plain, module)
        elif name in _ABOVE_ONE:
            module.forward = MethodType(_above_one, module)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., D) over the root of its mean square, times weight (D,); in fp32, in x's type."""
    return _RMSNorm.apply(x.float(), weight.float(), eps).to(x.dtype)  # pyright: ignore[reportAttributeAccessIssue]


def _plain(module: Any, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, module.variance_epsilon)


def _above_one(module: Any, x: Tensor) -> Tensor:
    return rms_norm(x, 1.0 + module.weight.float(), module.eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        x, weight, scale = ctx.saved_tensors
        D = x.shape[-1]
        of_x, of_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, (D,), torch.zeros_like(scale), scale, weight, None, (True, True, False)
        )
        # A layer norm's gradient lacks the mean of grad * weight, times scale.
        through_mean = (grad @ weight).div_(D)[..., None]
        return of_x.addcmul_(scale, through_mean), of_weight, None
