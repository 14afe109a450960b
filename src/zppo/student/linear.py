"""fp32 matrix products through oneDNN where MKL, torch's default, runs far below the machine.

On AMD processors MKL does not use AVX-512: on a Zen 5 core its products of the shapes of a 135M
model reach half the FLOP rate of oneDNN's, which torch carries as well (benchmarks/notes.md).
Both are true fp32. On Intel processors, on GPUs and in bf16 torch's own choice stays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Not part of torch's public interface: where a version lacks it, torch's own choice stays.
_PRODUCT = "_linear_pointwise"
_PACK = "_reorder_linear_weight"
_PACKABLE = (torch.float32, torch.bfloat16)
# oneDNN chooses the order for this many rows of x. One for few rows serves many as well; one for
# a single row does not (benchmarks/notes.md).
ROWS = 16


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this machine is one on which oneDNN's fp32 products are the faster ones."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX512", "AVX512_VNNI"):
        return False
    if not torch.backends.mkldnn.is_available() or not all(
        hasattr(torch.ops.mkldnn, name) for name in (_PRODUCT, _PACK)
    ):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False


def use_onednn(*models: nn.Module) -> None:
    """Send the fp32 linear layers of models on the CPU through oneDNN."""
    for module in (m for model in models for m in model.modules()):
        if type(module) is nn.Linear:
            setattr(module, "forward", MethodType(_forward, module))  # noqa: B010


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    fp32 = x.dtype == module.weight.dtype == torch.float32
    if not fp32 or x.device.type != "cpu" or x.numel() == 0:
        return F.linear(x, module.weight, module.bias)
    flat = x.reshape(-1, x.shape[-1])
    return _Linear.apply(flat, module.weight, module.bias).view(*x.shape[:-1], -1)  # pyright: ignore[reportAttributeAccessIssue]


def joint(x: Tensor, *layers: Any) -> Tensor:
    """The outputs of several layers for x (N, I), side by side: one product where they are plain
    linear layers without bias."""
    if any(type(layer) is not nn.Linear or layer.bias is not None for layer in layers):
        return torch.cat([layer(x) for layer in layers], dim=-1)
    weight = torch.cat([layer.weight for layer in layers])
    if x.dtype != torch.float32 or not onednn_is_faster():
        return F.linear(x, weight)
    return _Linear.apply(x, weight, None)  # pyright: ignore[reportReturnType]


class _Linear(torch.autograd.Function):
    """x (N, I), weight (O, I), bias (O,) or None to (N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        grad = grads[0]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(grad, weight.t()) if of_x else None,
            weight_gradient(grad, x) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """(O, I) from grad (N, O) and x (N, I). Its left factor is copied, transposed, and a transposed
    result once more where it is added up: what costs less."""
    N, O, I = len(x), grad.shape[1], x.shape[1]  # noqa: E741
    if N * O > N * I + 2 * O * I:
        return product(x.t(), grad.t()).t()
    return product(grad.t(), x.t())


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (N, I) times weight (O, I), plus bias (O,), without gradients."""
    if not onednn_is_faster():
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def constant_linear(*weights: Tensor) -> Callable[[Tensor], Tensor]:
    """x (N, I) to its products with weights (O, I), one beside the other in (N, sum of O). They
    are copied, in the order in which oneDNN's products read them where those are used."""
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    if onednn_is_faster() and weight.dtype in _PACKABLE:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        return lambda x: product(x, packed)
    return lambda x: F.linear(x, weight)


@contextmanager
def packed_weights(*models: nn.Module) -> Generator[None]:
    """Within it, without gradients, the layers that `use_onednn` was told of run on copies of
    their weights in the order in which oneDNN's products read them: as much memory again as these
    weights. A layer's copy is made when it first runs and is gone at the end, so none can outlive
    an update; weights must not change within."""
    layers = [m for model in models for m in model.modules() if _is_ours(m)]
    for layer in layers:
        setattr(layer, "forward", _Packed(layer))  # noqa: B010
    try:
        yield
    finally:
        use_onednn(*layers)


def _is_ours(module: nn.Module) -> bool:
    forward = module.__dict__.get("forward")
    return isinstance(forward, MethodType) and forward.__func__ is _forward


class _Packed:
    """The forward of a linear layer (O, I) that packs its weight on the first call."""

    def __init__(self, layer: Any):
        self.layer = layer
        self.weight: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype not in _PACKABLE or x.numel() == 0:
            return _forward(self.layer, x)
        weight = self.weight
        if weight is None:
            weight = torch.ops.mkldnn._reorder_linear_weight(self.layer.weight, ROWS)
            self.weight = weight
        flat = x.reshape(-1, x.shape[-1])
        return product(flat, weight, self.layer.bias).view(*x.shape[:-1], -1)
