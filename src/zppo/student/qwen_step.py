"""The responses of a Qwen3.5 while they are sampled on a CPU, without transformers' forward.

One token a row is all that runs then, and the number of operations is what costs: transformers
takes some 400 for three layers, this 30, four matrix products a layer and what lies between them
(`kernels.py`). Products that read the same input are one.

In bf16 products have bf16 inputs, and all else is in fp32.

Shapes: B prompts, R rows, H hidden size, D head size; heads as the model's config names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from zppo.student import kernels
from zppo.student.linear import constant_linear

#: Columns by which the room for own keys and values grows.
ROOM = 32
#: Every parameter of a layer that is computed here. A layer that has others, or lacks one, is not
#: what this code was written for.
_MLP = {f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
_NORMS = {"input_layernorm.weight", "post_attention_layernorm.weight"}
_PARAMETERS = {
    "linear_attention": _MLP | _NORMS
    | {f"linear_attn.in_proj_{name}.weight" for name in ("qkv", "z", "b", "a")}
    | {f"linear_attn.{name}" for name in ("A_log", "dt_bias", "conv1d.weight")}
    | {f"linear_attn.{name}.weight" for name in ("norm", "out_proj")},
    "full_attention": _MLP | _NORMS
    | {f"self_attn.{name}_proj.weight" for name in "qkvo"}
    | {"self_attn.q_norm.weight", "self_attn.k_norm.weight"},
}  # fmt: skip


def can_step(model: Any, caches: Sequence[Any]) -> bool:
    """Whether `QwenStep` is what this decoder computes: plain weights, the layers it knows, and
    `caches` of a prompt as transformers 5.19 and later fill them."""
    config = model.config.get_text_config()
    if config.model_type != "qwen3_5_text":
        return False
    text = _text_part(model)
    return (
        text.embed_tokens.weight.device.type == "cpu"
        and all(isinstance(c, DynamicLayer) or hasattr(c, "number_of_states") for c in caches)
        and config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] == "default"
        and all(type(m) is nn.Linear for m in text.modules() if hasattr(m, "in_features"))
        and all(
            {name for name, _ in layer.named_parameters()} == _PARAMETERS.get(kind)
            for layer, kind in zip(text.layers, config.layer_types, strict=True)
        )
    )


class QwenStep:
    """The decoder's weights of now, as the step reads them: a copy, which any number of
    `QwenRows` share."""

    def __init__(self, model: Any):
        text = _text_part(model)
        self.embed, self.frequencies = text.embed_tokens, text.rotary_emb.inv_freq.float()
        self.layers = [_Layer(layer) for layer in text.layers]
        self.norm = _Norm(text.norm)


class QwenRows:
    """Implements `zppo.student.decoding.Rows`. Prompts stay until the end, also without rows."""

    def __init__(self, step: QwenStep, prompt: Any, mask: Tensor, owner: Tensor, limit: int):
        self.step = step
        self.prompts = _Prompts(owner, (mask.shape[1] - mask.sum(-1)).numpy())
        self.states = [
            _DeltaState(cache, owner)
            if isinstance(layer.mixer, _DeltaRule)
            else _Keys(cache, self.prompts, min(limit, ROOM))
            for layer, cache in zip(step.layers, prompt.layers, strict=True)
        ]

    def next(self, token: Tensor, positions: Tensor) -> Tensor:
        """See `Rows.next`. A token's three positions are the same: it is text."""
        angles = positions.reshape(-1, len(token))[0, :, None] * self.step.frequencies
        rotation = (kernels.array(angles.cos()), kernels.array(angles.sin()))
        hidden = self.step.embed(token).float()
        change = torch.zeros_like(hidden)
        for layer, state in zip(self.step.layers, self.states, strict=True):
            change = layer(hidden, change, rotation, state)
        return self.step.norm(hidden, change)

    def keep(self, rows: Tensor) -> None:
        """See `Rows.keep`."""
        self.prompts.owner = self.prompts.owner.index_select(0, rows)
        for state in self.states:
            state.keep(rows)


@dataclass(slots=True)
class _Prompts:
    """Each row's prompt (R,), and where each prompt (B,) begins after its padding."""

    owner: Tensor
    first: np.ndarray


class _Layer:
    """A layer's two halves. What each adds to the hidden state is added by the norm that follows,
    which for the second half is the next layer's."""

    def __init__(self, layer: Any):
        if hasattr(layer, "linear_attn"):
            self.mixer: _Attention | _DeltaRule = _DeltaRule(layer.linear_attn)
        else:
            self.mixer = _Attention(layer.self_attn)
        self.before, self.between = (
            _Norm(x) for x in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        self.gate_up = constant_linear(layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight)
        self.down = constant_linear(layer.mlp.down_proj.weight)

    def __call__(self, hidden: Tensor, change: Tensor, rotation: Any, state: Any) -> Tensor:
        change = self.mixer(self.before(hidden, change), rotation, state)
        gate_up = self.gate_up(self.between(hidden, change))
        product = gate_up.new_empty(len(hidden), gate_up.shape[1] // 2, dtype=torch.float32)
        kernels.gated(kernels.array(gate_up), product.numpy())
        return self.down(product.to(gate_up.dtype))


class _Norm:
    """RMS norm of the hidden state, to which `change` is added before, in place. Qwen3.5's weights
    are relative to one."""

    def __init__(self, norm: Any):
        self.dtype = norm.weight.dtype
        self.weight, self.eps = kernels.array(1.0 + norm.weight.float()), np.float32(norm.eps)

    def __call__(self, hidden: Tensor, change: Tensor) -> Tensor:
        out = torch.empty_like(hidden)
        kernels.add_norm(hidden.numpy(), kernels.array(change), self.weight, self.eps, out.numpy())
        return out.to(self.dtype)


class _Keys:
    """What a layer of full attention attends to: keys and values of the prompts and, (R, K, T, D)
    with room for more than the `used` ones, the rows' own."""

    def __init__(self, cache: Any, prompts: _Prompts, room: int):
        self.prompts, self.room, self.used = prompts, room, 0
        self.of_prompt = [kernels.array(x) for x in (cache.keys, cache.values)]
        R, (_, K, _, D) = len(prompts.owner), cache.keys.shape
        self.own = [torch.empty(R, K, room, D) for _ in range(2)]

    def with_room(self) -> list[np.ndarray]:
        """Own keys and values, with room for one more."""
        R, K, T, D = self.own[0].shape
        if self.used == T:
            self.own = [torch.cat([x, x.new_empty(R, K, self.room, D)], dim=2) for x in self.own]
        return [x.numpy() for x in self.own]

    def keep(self, rows: Tensor) -> None:
        self.own = [x.index_select(0, rows) for x in self.own]


class _Attention:
    """Full attention with a gate."""

    def __init__(self, attention: Any):
        D = attention.head_dim
        query, gate = attention.q_proj.weight.unflatten(0, (-1, 2, D)).unbind(1)
        query, gate = (x.reshape(-1, attention.q_proj.in_features) for x in (query, gate))
        parts = (query, attention.k_proj.weight, attention.v_proj.weight, gate)
        self.inputs, self.width = constant_linear(*parts), len(query)
        self.of_query = kernels.array((1.0 + attention.q_norm.weight.float()) * attention.scaling)
        self.of_key = kernels.array(1.0 + attention.k_norm.weight.float())
        self.eps = np.float32(attention.q_norm.eps)
        self.output = constant_linear(attention.o_proj.weight)

    def __call__(self, x: Tensor, rotation: Any, keys: _Keys) -> Tensor:
        out = x.new_empty(len(x), self.width, dtype=torch.float32)
        kernels.attend(
            kernels.array(self.inputs(x)), self.of_query, self.of_key, self.eps, *rotation,
            *keys.of_prompt, keys.prompts.first, keys.prompts.owner.numpy(),
            *keys.with_room(), keys.used, out.numpy(),
        )  # fmt: skip
        keys.used += 1
        return self.output(out.to(x.dtype))


class _DeltaState:
    """What a layer of linear attention remembers: the state (R, heads, K, V), and a window of the
    convolution's last inputs (taps - 1, R, C), the oldest at place `oldest`."""

    def __init__(self, cache: Any, owner: Tensor):
        # transformers' window (B, C, taps) has one more column, which is past.
        self.state = cache.recurrent_states[0].float().index_select(0, owner)
        window = cache.conv_states[0][..., 1:].float().permute(2, 0, 1)
        self.window, self.oldest = window.index_select(1, owner), 0

    def keep(self, rows: Tensor) -> None:
        self.state = self.state.index_select(0, rows)
        self.window = self.window.index_select(1, rows)


class _DeltaRule:
    """The gated delta rule and its convolution."""

    def __init__(self, delta: Any):
        projections = (delta.in_proj_qkv, delta.in_proj_z, delta.in_proj_b, delta.in_proj_a)
        self.inputs = constant_linear(*(x.weight for x in projections))
        self.taps = kernels.array(delta.conv1d.weight[:, 0].t())
        self.rate = kernels.array(-delta.A_log.float().exp())
        self.bias, self.weight = (kernels.array(x) for x in (delta.dt_bias, delta.norm.weight))
        self.eps = np.float32(delta.norm.variance_epsilon)
        self.output, self.width = constant_linear(delta.out_proj.weight), delta.value_dim

    def __call__(self, x: Tensor, rotation: Any, cache: _DeltaState) -> Tensor:
        out = x.new_empty(len(x), self.width, dtype=torch.float32)
        kernels.delta_rule(
            kernels.array(self.inputs(x)), cache.window.numpy(), cache.oldest, self.taps,
            self.rate, self.bias, self.weight, self.eps, cache.state.numpy(), out.numpy(),
        )  # fmt: skip
        cache.oldest = (cache.oldest + 1) % len(cache.window)
        return self.output(out.to(x.dtype))


def _text_part(model: Any) -> Any:
    return getattr(model, "language_model", model)
