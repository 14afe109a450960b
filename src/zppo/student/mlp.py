"""The gated MLP of a small model, a cache-full of tokens at a time.

What an MLP computes between its products, silu(gate) * up, is as wide as three times the hidden
size. For thousands of tokens it leaves the cache and comes back in each of the ten passes over it.
A large model's products take so long that this hardly matters; with a small one it is a third of
the MLP's time. Here gate and up are one product, and all is done for `TOKENS` tokens before the
next ones follow, forward and backward.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zppo.student.linear import product, weight_gradient

TOKENS = 1_024
#: Entries of a weight matrix up to which it was measured to help (benchmarks/notes.md).
SMALL = 2**16
_KINDS = {f"{model}MLP" for model in ("Llama", "Mistral", "Qwen2", "Qwen3", "Qwen3_5", "SmolLM3")}


def use_chunked_mlps(model: Any) -> None:
    """Replace the forward of a model's MLPs where they are small and of a kind known here."""
    for module in model.modules():
        if type(module).__name__ in _KINDS and module.gate_proj.weight.numel() <= SMALL:
            module.forward = MethodType(_forward, module)


def _forward(module: Any, x: Tensor) -> Tensor:
    layers = (module.gate_proj, module.up_proj, module.down_proj)
    if (
        not torch.is_grad_enabled()
        or x.dtype != torch.float32
        or any(type(layer) is not nn.Linear or layer.bias is not None for layer in layers)
        or module.config.hidden_act != "silu"
    ):
        return type(module).forward(module, x)
    flat = x.reshape(-1, x.shape[-1])
    return _GatedMLP.apply(flat, *(layer.weight for layer in layers)).view(x.shape)  # pyright: ignore[reportAttributeAccessIssue]


class _GatedMLP(torch.autograd.Function):
    """x (N, H), gate and up (I, H), down (H, I) to (N, H), fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        inner = torch.cat([gate, up])
        out = torch.empty_like(x)
        kept: list[Tensor] = []
        for part, of_part in zip(x.split(TOKENS), out.split(TOKENS), strict=True):
            both = product(part, inner)
            g, u = both.chunk(2, dim=-1)
            of_part.copy_(product(F.silu(g).mul_(u), down))
            kept.append(both)
        ctx.save_for_backward(x, inner, down, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, inner, down, *kept = ctx.saved_tensors
        of_x = torch.empty_like(x)
        of_inner, of_down = torch.zeros_like(inner), torch.zeros_like(down)
        pieces = zip(kept, *(t.split(TOKENS) for t in (x, grads[0], of_x)), strict=True)
        for both, part, grad, of_part in pieces:
            g, u = both.chunk(2, dim=-1)
            of_both = torch.empty_like(both)
            of_g, of_u = of_both.chunk(2, dim=-1)
            of_hidden, hidden = product(grad, down.t()), F.silu(g)
            torch.mul(of_hidden, hidden, out=of_u)
            torch.ops.aten.silu_backward.grad_input(of_hidden.mul_(u), g, grad_input=of_g)
            of_down += weight_gradient(grad, hidden.mul_(u))
            of_inner += weight_gradient(of_both, part)
            of_part.copy_(product(of_both, inner.t()))
        of_gate, of_up = of_inner.chunk(2)
        return of_x, of_gate, of_up, of_down
