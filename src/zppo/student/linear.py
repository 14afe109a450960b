"""fp32 matrix products through oneDNN where MKL, torch's default, runs far below the machine.

On AMD processors MKL does not use AVX-512: on a Zen 5 core its products of the shapes of a 135M
model reach half the FLOP rate of oneDNN's, which torch carries as well (benchmarks/notes.md).
Both are true fp32. On Intel processors, on GPUs and in bf16 torch's own choice stays.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Not part of torch's public interface: where a version lacks it, torch's own choice stays.
_PRODUCT = "_linear_pointwise"


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this machine is one on which oneDNN's fp32 products are the faster ones."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX512", "AVX512_VNNI"):
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, _PRODUCT):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False


def use_onednn(model: nn.Module) -> None:
    """Send the fp32 linear layers of a model on the CPU through oneDNN."""
    for module in model.modules():
        if type(module) is nn.Linear:
            setattr(module, "forward", MethodType(_forward, module))  # noqa: B010


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    fp32 = x.dtype == module.weight.dtype == torch.float32
    if not fp32 or x.device.type != "cpu" or x.numel() == 0:
        return F.linear(x, module.weight, module.bias)
    flat = x.reshape(-1, x.shape[-1])
    return _Linear.apply(flat, module.weight, module.bias).view(*x.shape[:-1], -1)  # pyright: ignore[reportAttributeAccessIssue]


class _Linear(torch.autograd.Function):
    """x (N, I), weight (O, I), bias (O,) or None to (N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        grad = grads[0]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.t()) if of_x else None,
            _product(grad.t(), x.t()) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
