"""The responses of a Qwen3.5 while they are sampled on a CPU, without transformers' forward.

One token a row is all that runs then, and the number of operations is what costs: transformers
takes some 400 for three layers, this 30, four matrix products a layer and what lies between them
(`kernels.py`). Products that read the same input are one.

In bf16 products have bf16 inputs, and all else is in fp32.

Shapes: B prompts, R rows, H hidden size, D head size; heads as the model's config names them.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Whether `QwenRows` computes what this decoder does: plain weights, the layers it knows, and
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


class QwenRows:
    """Implements `zppo.student.decoding.Rows`, with the model's weights of now."""

    def __init__(self, model: Any, prompt: Any, mask: Tensor, owner: Tensor, limit: int):
        text = _text_part(model)
        self.embed, self.frequencies = text.embed_tokens, text.rotary_emb.inv_freq.float()
        prompts = _Prompts(mask, owner)
        mixers = [
            _DeltaRule(layer.linear_attn, cache, prompts)
            if hasattr(layer, "linear_attn")
            else _Attention(layer.self_attn, cache, prompts, min(limit, ROOM))
            for layer, cache in zip(text.layers, prompt.layers, strict=True)
        ]
        self.prompts = prompts
        self.layers = [_Layer(*pair) for pair in zip(text.layers, mixers, strict=True)]
        self.norm = _Norm(text.norm)

    def next(self, token: Tensor, positions: Tensor) -> Tensor:
        """See `Rows.next`. A token's three positions are the same: it is text."""
        angles = positions.reshape(-1, len(token))[0, :, None] * self.frequencies
        rotation = (kernels.array(angles.cos()), kernels.array(angles.sin()))
        hidden = self.embed(token).float()
        change = torch.zeros_like(hidden)
        for layer in self.layers:
            change = layer(hidden, change, rotation)
        return self.norm(hidden, change)

    def keep(self, rows: Tensor) -> None:
        """See `Rows.keep`."""
        self.prompts.keep(rows)
        for layer in self.layers:
            layer.mixer.keep(rows)


class _Prompts:
    """Which prompt is whose, and where each begins after its padding."""

    def __init__(self, mask: Tensor, owner: Tensor):
        self.rows = owner
        self.owner = owner.numpy()
        self.first = (mask.shape[1] - mask.sum(-1)).numpy()

    def keep(self, rows: Tensor) -> None:
        self.rows = self.rows.index_select(0, rows)
        self.owner = self.rows.numpy()


class _Layer:
    """A layer's two halves. What each adds to the hidden state is added by the norm that follows,
    which for the second half is the next layer's."""

    def __init__(self, layer: Any, mixer: _Attention | _DeltaRule):
        self.mixer = mixer
        self.before, self.between = (
            _Norm(x) for x in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        self.gate_up = constant_linear(layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight)
        self.down = constant_linear(layer.mlp.down_proj.weight)

    def __call__(self, hidden: Tensor, change: Tensor, rotation: Any) -> Tensor:
        change = self.mixer(self.before(hidden, change), rotation)
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


class _Attention:
    """Full attention with a gate, to the prompts' keys and the rows' own, (R, K, T, D) with room
    for more than the `used` ones."""

    def __init__(self, attention: Any, cache: Any, prompts: _Prompts, room: int):
        D = attention.head_dim
        query, gate = attention.q_proj.weight.unflatten(0, (-1, 2, D)).flatten(2).unbind(1)
        query, gate = (x.reshape(-1, attention.q_proj.in_features) for x in (query, gate))
        parts = (query, attention.k_proj.weight, attention.v_proj.weight, gate)
        self.inputs, self.width = constant_linear(*parts), len(query)
        self.of_query = kernels.array((1.0 + attention.q_norm.weight.float()) * attention.scaling)
        self.of_key = kernels.array(1.0 + attention.k_norm.weight.float())
        self.eps = np.float32(attention.q_norm.eps)
        self.output = constant_linear(attention.o_proj.weight)
        self.prompts, self.room, self.used = prompts, room, 0
        self.of_prompt = [kernels.array(x) for x in (cache.keys, cache.values)]
        R, K = len(prompts.rows), cache.keys.shape[1]
        self.own = [cache.keys.new_empty(R, K, room, D, dtype=torch.float32) for _ in range(2)]

    def __call__(self, x: Tensor, rotation: Any) -> Tensor:
        if self.used == self.own[0].shape[2]:
            R, K, _, D = self.own[0].shape
            self.own = [torch.cat([x, x.new_empty(R, K, self.room, D)], dim=2) for x in self.own]
        out = x.new_empty(len(x), self.width, dtype=torch.float32)
        kernels.attend(
            kernels.array(self.inputs(x)), self.of_query, self.of_key, self.eps, *rotation,
            *self.of_prompt, self.prompts.first, self.prompts.owner,
            *(x.numpy() for x in self.own), self.used, out.numpy(),
        )  # fmt: skip
        self.used += 1
        return self.output(out.to(x.dtype))

    def keep(self, rows: Tensor) -> None:
        self.own = [x.index_select(0, rows) for x in self.own]


class _DeltaRule:
    """The gated delta rule and its convolution: a state (R, heads, K, V), and a window of the last
    inputs (taps - 1, R, C), the oldest at place `oldest`."""

    def __init__(self, delta: Any, cache: Any, prompts: _Prompts):
        projections = (delta.in_proj_qkv, delta.in_proj_z, delta.in_proj_b, delta.in_proj_a)
        self.inputs = constant_linear(*(x.weight for x in projections))
        self.taps = kernels.array(delta.conv1d.weight[:, 0].t())
        self.rate, self.bias = (
            kernels.array(-delta.A_log.float().exp()),
            kernels.array(delta.dt_bias),
        )
        self.weight, self.eps = (
            kernels.array(delta.norm.weight),
            np.float32(delta.norm.variance_epsilon),
        )
        self.output = constant_linear(delta.out_proj.weight)
        self.width, self.oldest = delta.num_v_heads * delta.head_v_dim, 0
        # transformers' window (B, C, taps) has one more column, which is past.
        self.state = cache.recurrent_states[0].float().index_select(0, prompts.rows)
        window = cache.conv_states[0][..., 1:].float().permute(2, 0, 1)
        self.window = window.index_select(1, prompts.rows)

    def __call__(self, x: Tensor, rotation: Any) -> Tensor:
        out = x.new_empty(len(x), self.width, dtype=torch.float32)
        kernels.delta_rule(
            kernels.array(self.inputs(x)), self.window.numpy(), self.oldest, self.taps,
            self.rate, self.bias, self.weight, self.eps, self.state.numpy(), out.numpy(),
        )  # fmt: skip
        self.oldest = (self.oldest + 1) % len(self.window)
        return self.output(out.to(x.dtype))

    def keep(self, rows: Tensor) -> None:
        self.state = self.state.index_select(0, rows)
        self.window = self.window.index_select(1, rows)


def _text_part(model: Any) -> Any:
    return getattr(model, "language_model", model)
