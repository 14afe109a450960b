"""AdamW that keeps fp32 master weights and gradients for bf16 parameters.

With a learning rate of 1e-6 an update is far below the resolution of bf16, so the weights that
the optimiser moves are kept in fp32 and copied to the bf16 model after each step. Micro-batch
gradients are summed in fp32 as well. fp32 parameters are their own masters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from zppo.config import OptimizerConfig


class MasterAdamW:
    """The optimiser of one model; `params` are its trainable parameters in a fixed order."""

    def __init__(self, params: Iterable[Tensor], config: OptimizerConfig):
        self.params = list(params)
        self.masters = [
            p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for p in self.params
        ]
        self.max_grad_norm = config.max_grad_norm
        self.adamw = torch.optim.AdamW(
            self.masters,
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
        )
        for param, master in self._pairs():
            param.register_post_accumulate_grad_hook(_move_gradient_to(master))

    def zero_grad(self) -> None:
        """Zero, not None: a mini-batch without gradient still takes its (decaying) step, whether
        its trivial groups were left out or not."""
        self.adamw.zero_grad(set_to_none=False)

    def clip(self) -> float:
        """Clip to the global norm; returns the norm before clipping, which may be non-finite."""
        with_grad = [m for m in self.masters if m.grad is not None]
        if not with_grad:
            return 0.0
        return float(torch.nn.utils.clip_grad_norm_(with_grad, self.max_grad_norm))

    @torch.no_grad()
    def step(self) -> None:
        self.adamw.step()
        for param, master in self._pairs():
            param.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        """Moments, settings and the masters that are not the model's own parameters."""
        masters = {i: m.detach() for i, m in enumerate(self.masters) if m is not self.params[i]}
        return {"adamw": self.adamw.state_dict(), "masters": masters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`, after the model's weights were restored.

        Settings stay those of this run's config: a resumed run may have a new learning rate. Its
        dtype may be new as well: fp32 parameters then take up the masters, and masters without a
        saved one start from the parameters.
        """
        settings = [
            {k: v for k, v in group.items() if k != "params"} for group in self.adamw.param_groups
        ]
        self.adamw.load_state_dict(state["adamw"])
        for group, own in zip(self.adamw.param_groups, settings, strict=True):
            group.update(own)
        with torch.no_grad():
            for i, (param, master) in enumerate(zip(self.params, self.masters, strict=True)):
                master.copy_(state["masters"].get(i, param))
                param.copy_(master)
        # A parameter that has had a gradient keeps a zero one between steps (see zero_grad).
        for master in self.masters:
            if master in self.adamw.state and master.grad is None:
                master.grad = torch.zeros_like(master)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(self.params, self.masters, strict=True)
        return [(p, m) for p, m in pairs if p is not m]


def _move_gradient_to(master: Tensor) -> Any:
    def hook(param: Tensor) -> None:
        assert param.grad is not None
        gradient = param.grad.float()
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        param.grad = None

    return hook
