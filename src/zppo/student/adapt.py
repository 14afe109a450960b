"""What is done to a loaded model before it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from zppo.config import LoraConfig
from zppo.errors import ModelError


def with_adapters(model: Any, lora: LoraConfig | None) -> Any:
    """`model`, with low-rank adapters where `lora` asks for them. Raises `ModelError`."""
    if lora is None:
        return model
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model

    settings = PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ModelError(f"student.lora: {error}") from None


def freeze_vision(model: Any) -> None:
    """Leave the vision tower as it is."""
    for name, parameter in model.named_parameters():
        if "visual" in name:
            parameter.requires_grad_(False)


def checkpoint_layers(model: Any) -> None:
    """Recompute each layer in the backward pass. transformers' own switch drops the cache that
    prompt-once training reads; ours may repeat a layer because that cache is never written to."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.forward = _recomputed(module.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return call
