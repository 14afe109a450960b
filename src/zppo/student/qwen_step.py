"""One token of a Qwen3.5 for every response of a batch, without transformers' forward.

While responses are sampled, one token a row is all that runs, and then it is the number of
operations that costs: transformers takes some 400 for three layers, this a third of that. The
model's arithmetic is the same; what is folded together is what does not change while sampling.

- Products that read the same input are one: query, key, value and gate; the delta rule's five; the
  MLP's gate and up.
- The two halves that a rotation turns into each other lie next to each other, so that it is one
  complex product. A query's product with a key does not depend on the order of their entries, so
  the prompt's keys, made by transformers, are put into that order once.
- The convolution's window is a list of the last inputs instead of a tensor that shifts.
- The delta rule reads its state once, for key and query together.

CPU only: on a GPU kernels exist for parts of this, and what it would gain there is not measured.

Shapes: R rows, H hidden size, D head size; heads as the model's config names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from zppo.student.attention import next_token
from zppo.student.linear import constant_linear

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
    """Whether `QwenStep` computes what this decoder does: plain weights, the layers it knows, and
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
    """The decoder's layers with their weights of now. It runs on the caches that it made."""

    def __init__(self, model: Any):
        text = _text_part(model)
        self.embed, self.frequencies = text.embed_tokens, text.rotary_emb.inv_freq.float()
        rotated = 2 * len(self.frequencies)
        self.layers = [_Layer(layer, rotated) for layer in text.layers]
        self.norm = _norm(text.norm)

    def reorder_keys(self, number: int, keys: Tensor) -> Tensor:
        """Keys (..., D) of layer `number` in the order in which its queries are made here."""
        return keys.index_select(-1, self.layers[number].mixer.order)

    def __call__(self, token: Tensor, positions: Tensor, caches: Sequence[Any]) -> Tensor:
        """The last hidden state (R, H) after `token` (R,) at `positions` (R,). Full attention's
        caches are `update`d as transformers does it, the others are `DeltaState`s."""
        hidden = self.embed(token)
        angles = positions[:, None] * self.frequencies
        rotation = torch.complex(angles.cos(), angles.sin())[:, None]
        for layer, cache in zip(self.layers, caches, strict=True):
            hidden = layer(hidden, rotation, cache)
        return self.norm(hidden)


class DeltaState:
    """What a layer of linear attention remembers of R rows.

    window  the last inputs of its convolution, oldest first, (R, C) each
    state   (R, heads, K, V)
    """

    def __init__(self, inputs: Tensor, state: Tensor):
        """From transformers' (R, C, kernel), whose first column is past, and state."""
        self.window = list(inputs[..., 1:].float().permute(2, 0, 1).contiguous())
        self.state = state.float()

    def reorder_cache(self, rows: Tensor) -> None:
        """Go on with these rows alone; named as in transformers' caches."""
        self.window = [x.index_select(0, rows) for x in self.window]
        self.state = self.state.index_select(0, rows)


class _Layer:
    """A layer's two halves, each added to what it reads."""

    def __init__(self, layer: Any, rotated: int):
        self.before, self.between = (
            _norm(x) for x in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        if hasattr(layer, "linear_attn"):
            self.mixer: Any = _DeltaRule(layer.linear_attn)
        else:
            self.mixer = _Attention(layer.self_attn, rotated)
        self.gate_up = constant_linear(layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight)
        self.down = constant_linear(layer.mlp.down_proj.weight)

    def __call__(self, hidden: Tensor, rotation: Tensor, cache: Any) -> Tensor:
        hidden = hidden + self.mixer(self.before(hidden), rotation, cache)
        gate, up = self.gate_up(self.between(hidden)).chunk(2, dim=-1)
        return hidden + self.down(F.silu(gate).mul_(up))


class _Attention:
    """Full attention with a gate."""

    def __init__(self, attention: Any, rotated: int):
        D, self.rotated = attention.head_dim, rotated
        query, gate = attention.q_proj.weight.unflatten(0, (-1, 2, D)).unbind(1)
        key, value = (x.weight.unflatten(0, (-1, D)) for x in (attention.k_proj, attention.v_proj))
        self.heads, self.key_heads, self.D = len(query), len(key), D
        self.order = torch.arange(D)
        self.order[:rotated] = self.order[:rotated].view(2, -1).t().flatten()
        parts = (query[:, self.order], key[:, self.order], value, gate)
        self.inputs = constant_linear(*(x.flatten(0, 1) for x in parts))
        self.columns = [len(query) * D + len(key) * D, len(key) * D, len(query) * D]
        of_query, of_key = (
            1.0 + x.weight.float()[self.order] for x in (attention.q_norm, attention.k_norm)
        )
        scaled = of_query * attention.scaling
        self.weight = torch.stack([scaled] * self.heads + [of_key] * self.key_heads)
        self.eps = attention.q_norm.eps
        self.output = constant_linear(attention.o_proj.weight)

    def __call__(self, x: Tensor, rotation: Tensor, cache: Any) -> Tensor:
        R, D = len(x), self.D
        both, value, gate = self.inputs(x).split(self.columns, dim=-1)
        both = F.rms_norm(both.float().view(R, -1, D), (D,), None, self.eps).mul_(self.weight)
        pairs = both[..., : self.rotated].unflatten(-1, (-1, 2))
        torch.view_as_complex(pairs).mul_(rotation)
        query, key = both.to(x.dtype)[:, :, None].split([self.heads, self.key_heads], dim=1)
        past, _ = cache.update(key, value.view(R, self.key_heads, 1, D))
        out = next_token(query, past).reshape(R, self.heads * D)
        return self.output(out.mul_(gate.sigmoid()))


class _DeltaRule:
    """The gated delta rule, in fp32 as transformers' is. Its state S, of each row and value head,
    goes to d S + k (b (v - d S'k))', and the output is the new S'q."""

    def __init__(self, delta: Any):
        self.key_heads, self.heads = delta.num_k_heads, delta.num_v_heads
        self.K, self.V = delta.head_k_dim, delta.head_v_dim
        projections = (delta.in_proj_qkv, delta.in_proj_z, delta.in_proj_b, delta.in_proj_a)
        self.inputs = constant_linear(*(x.weight for x in projections))
        self.columns = [len(x.weight) for x in projections]
        self.taps = delta.conv1d.weight[:, 0].t().float().contiguous()
        self.rate, self.bias = -delta.A_log.float().exp(), delta.dt_bias.float()
        self.scale = torch.tensor([self.K**-0.5, 1.0])[:, None, None]  # of query and key
        self.weight, self.eps = delta.norm.weight.float(), delta.norm.variance_epsilon
        self.output = constant_linear(delta.out_proj.weight)

    def __call__(self, x: Tensor, rotation: Tensor, cache: DeltaState) -> Tensor:
        R, heads, K, V = len(x), self.heads, self.K, self.V
        inputs, gate, b, a = self.inputs(x).float().split(self.columns, dim=-1)
        both, value = self._convolved(inputs, cache).split([2 * self.key_heads * K, heads * V], -1)
        both, value = self._normalised(both), value.reshape(R * heads, 1, V)
        decay = F.softplus(a + self.bias).mul_(self.rate).exp_().view(-1, 1, 1)
        beta = b.sigmoid().view(-1, 1, 1)

        state = cache.state.view(-1, K, V)
        of_query, of_key = torch.bmm(both, state).split(1, dim=1)
        query, key = both.split(1, dim=1)
        change = torch.addcmul(value, of_key, decay, value=-1.0).mul_(beta)
        state.mul_(decay).addcmul_(key.transpose(1, 2), change)
        out = (query * key).sum(-1, keepdim=True) * change
        out.addcmul_(of_query, decay)

        out = F.rms_norm(out.view(R, heads, V), (V,), self.weight, self.eps)
        return self.output((out.view(R, -1) * F.silu(gate)).to(x.dtype))

    def _convolved(self, inputs: Tensor, cache: DeltaState) -> Tensor:
        """(R, C) after the convolution over the window, which moves on."""
        out = inputs * self.taps[-1]
        for past, tap in zip(cache.window, self.taps, strict=False):
            out.addcmul_(past, tap)
        cache.window = [*cache.window[1:], inputs]
        return F.silu(out, inplace=True)

    def _normalised(self, both: Tensor) -> Tensor:
        """Query and key (R, 2 * key heads * K), of length one, as (R * heads, 2, K)."""
        both = both.unflatten(-1, (2, self.key_heads, self.K))
        square = (both * both).sum(-1, keepdim=True)
        both = both * (square + 1e-6).rsqrt_().mul_(self.scale)
        by_head = both.transpose(1, 2)[:, :, None]
        groups = self.heads // self.key_heads
        return by_head.expand(-1, -1, groups, -1, -1).reshape(-1, 2, self.K)


def _norm(norm: Any) -> Callable[[Tensor], Tensor]:
    """RMS norm in fp32; Qwen3.5's weights are relative to one."""
    weight, eps = 1.0 + norm.weight.float(), norm.eps
    return lambda x: F.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)


def _text_part(model: Any) -> Any:
    return getattr(model, "language_model", model)
