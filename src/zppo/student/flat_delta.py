"""The gated delta rule in a flat pass (see `flat.py`), with gradients.

The rule itself is transformers' (`torch_chunk_gated_delta_rule`): a sequence is cut into chunks,
what tokens of a chunk do to each other is solved for all chunks at once, and a state goes from
chunk to chunk. What is different: all chunks of all prompts are one batch, whatever their lengths,
and then those of all responses, which start from the states at their prompts' ends; nothing is
written in place, so that a checkpoint may repeat a layer.

Shapes: N tokens, R sequences, M chunks of L tokens, C channels of the convolution, heads of K key
and V value entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.cache_utils import LinearAttentionLayer

from zppo.student.flat import Chunks, FlatPass
from zppo.student.linear import joint
from zppo.student.norm import rms_norm

#: Tokens of a chunk, for heads with more than `SMALL_HEAD` key entries and for others. The result
#: does not depend on it; 32 takes a quarter to a third less time than transformers' 64 on small
#: heads and no more on those of a 0.8B model, 16 still less on small heads in a flat pass
#: (benchmarks/notes.md).
DELTA_CHUNK, CHUNK_OF_SMALL_HEADS, SMALL_HEAD = 32, 16, 32
#: Chunks whose convolution is computed at a time.
AT_A_TIME = 16


class FlatLinear(LinearAttentionLayer):
    """Tells a delta layer that a pass is flat. Nothing is stored."""

    def __init__(self, rows: FlatPass):
        super().__init__()
        self.rows = rows


def delta_layers(model: Any) -> list[Any]:
    """The layers whose gated delta rule is the one here."""
    return [m for m in model.modules() if type(m).__name__ == "Qwen3_5GatedDeltaNet"]


def run_flat(model: Any) -> None:
    """Let a model's delta layers run on `FlatLinear`; on other caches they run as before."""
    for layer in delta_layers(model):
        layer.forward = _Forward(layer, layer.forward)


def runs_flat(model: Any) -> bool:
    """Whether `run_flat` was called for each delta layer of the model; true if it has none."""
    return all(isinstance(x.forward, _Forward) for x in delta_layers(model))


@dataclass(frozen=True, slots=True, eq=False)
class _Forward:
    layer: Any
    usual: Callable[..., Tensor]

    def __call__(self, hidden_states: Tensor, cache_params: Any = None, **kwargs: Any) -> Tensor:
        if cache_params is not None:
            cache = cache_params.layers[self.layer.layer_idx]
            if isinstance(cache, FlatLinear):
                return flat_layer(self.layer, hidden_states, cache.rows)
        return self.usual(hidden_states, cache_params=cache_params, **kwargs)


def flat_layer(layer: Any, hidden: Tensor, rows: FlatPass) -> Tensor:
    """The layer's output (1, N, H) for a flat pass."""
    x, K, V = hidden[0], layer.head_k_dim, layer.head_v_dim
    size = CHUNK_OF_SMALL_HEADS if K <= SMALL_HEAD else DELTA_CHUNK
    channels, heads, B = layer.conv_dim, layer.num_v_heads, len(rows.ends)
    projected = joint(x, layer.in_proj_qkv, layer.in_proj_b, layer.in_proj_a, layer.in_proj_z)
    inputs, gate = projected.split([channels + 2 * heads, layer.value_dim], dim=-1)
    of_prompts, of_responses = inputs.float().split([rows.prompts.N, rows.responses.N])

    before = layer.conv1d.weight.shape[-1] - 1
    window = x.new_zeros(B, before, channels, dtype=torch.float32)
    state = x.new_zeros(B, heads, K, V, dtype=torch.float32)
    chunks = rows.prompts.chunks(size)
    out, state = _sequences(layer, of_prompts, window, state, chunks)
    if rows.responses.N:
        order = chunks.owner.argsort()  # states stand in the order of the chunks
        chunks = rows.responses.chunks(size)
        state = state.index_select(0, order.index_select(0, chunks.owner))
        last = rows.last(before)
        ends = of_prompts.index_select(0, last.clamp(max=rows.prompts.N - 1))[:, :channels]
        ends = ends.masked_fill((last == rows.prompts.N)[:, None], 0.0)
        window = ends.reshape(B, before, channels).index_select(0, chunks.owner)
        out = torch.cat([out, _sequences(layer, of_responses, window, state, chunks)[0]])

    out = rms_norm(out, layer.norm.weight, layer.norm.variance_epsilon).view(len(x), -1)
    return layer.out_proj((out * F.silu(gate.float())).to(hidden.dtype))[None]


def _sequences(
    layer: Any, inputs: Tensor, window: Tensor, state: Tensor, chunks: Chunks
) -> tuple[Tensor, Tensor]:
    """(N * heads, V) from the inputs (N, C + 2 heads) of sequences: of the convolution, of beta and
    of the decay; before each were `window` (R, kernel - 1, C) and `state` (R, heads, K, V). And the
    states at their ends. Both in the order of first chunks."""
    channels, heads, K, V = layer.conv_dim, layer.num_v_heads, layer.head_k_dim, layer.head_v_dim
    # Places without a token come after all tokens of their sequence: nothing sees them.
    inputs = _Gather.apply(inputs, chunks.tokens, chunks.places)
    inputs = inputs.view(sum(chunks.counts), -1, channels + 2 * heads)
    inputs, beta, decay = inputs.split([channels, heads, heads], dim=-1)
    taps = layer.conv1d.weight[:, 0].float().t()
    both, value = _Convolution.apply(inputs, window, taps, chunks).split(
        [2 * layer.key_dim, layer.value_dim], dim=-1
    )
    # Of length one, as 1 / root(mean square) is root(K) / length.
    both = rms_norm(both.unflatten(-1, (2, -1, K)), inputs.new_full((K,), K**-0.5), 1e-6 / K)
    query, key = both.unbind(2)
    value = value.unflatten(-1, (-1, V))
    groups = value.shape[2] // key.shape[2]
    if groups > 1:
        query, key = (t.repeat_interleave(groups, dim=2) for t in (query, key))
    decay = -layer.A_log.float().exp() * F.softplus(decay + layer.dt_bias)
    # Where no token is, the state neither changes nor decays.
    beta, decay = (t.masked_fill(chunks.missing[..., None], 0.0) for t in (beta.sigmoid(), decay))
    query, key, value, beta, decay = (
        t.transpose(1, 2).contiguous() for t in (query, key, value, beta, decay)
    )
    out, state = _rule(query, key, value, beta, decay, state, chunks.counts)
    out = out.transpose(1, 2).reshape(len(chunks.tokens), -1)
    return _Gather.apply(out, chunks.places, chunks.tokens).view(-1, V), state


def _rule(
    query: Tensor, key: Tensor, value: Tensor, beta: Tensor, decay: Tensor, state: Tensor,
    counts: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(M, heads, L, V) from query and key (M, heads, L, K), value (M, heads, L, V), beta and the
    log of the decay (M, heads, L), and the state (R, heads, K, V) before each first chunk. And the
    states after each sequence's last chunk."""
    L, V = value.shape[-2:]
    total = decay.cumsum(-1)  # log of the decay since the chunk's start
    future = torch.ones(L, L, dtype=torch.bool, device=value.device).triu(1)
    between = (total[..., :, None] - total[..., None, :]).masked_fill(future, -torch.inf).exp()
    since = total.exp()[..., None]
    key_beta = key * beta[..., None]
    system = (key_beta @ key.transpose(-1, -2)) * between
    known = torch.cat([value * beta[..., None], key_beta * since], dim=-1)
    solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    # What a chunk adds to the state if it was empty, and what each token reads of the state.
    news, reads = solved.split([V, key.shape[-1]], dim=-1)
    scale = query.shape[-1] ** -0.5
    attended = (query @ key.transpose(-1, -2)) * (between * scale)
    last = total[..., -1:]
    keys_left = (key * (last - total).exp()[..., None]).transpose(-1, -2)
    reads = torch.cat([reads, query * (since * scale)], dim=-2)
    parts = (x.split(counts) for x in (news, reads, keys_left, last.exp()[..., None]))
    changes: list[Tensor] = []
    of_state: list[Tensor] = []
    ended: list[Tensor] = []  # the shortest sequences first
    following = [*counts[1:], 0]
    for new, read, left, kept, n in zip(*parts, following, strict=True):
        known_already, out = (read @ state).split(L, dim=-2)
        changes.append(new - known_already)
        of_state.append(out)
        state, end = (state * kept + left @ changes[-1]).split([n, len(state) - n])
        ended.insert(0, end)
    return torch.cat(of_state) + attended @ torch.cat(changes), torch.cat(ended)


class _Gather(torch.autograd.Function):
    """Rows `index` of x; `back` says where each row of x went. An index past the end stands for
    zeros. As no row goes to two places, the gradient is a gathering, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return F.pad(x, (0, 0, 0, 1)).index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return F.pad(grads[0], (0, 0, 0, 1)).index_select(0, ctx.back), None, None


class _Convolution(torch.autograd.Function):
    """SiLU of the causal convolution of each channel: (M, L, C) chunks, the (R, kernel - 1, C)
    inputs before each first one and taps (kernel, C) to (M, L, C). A cache-full at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor, taps: Tensor, chunks: Chunks) -> Tensor:
        before = len(taps) - 1
        earlier = torch.cat([window, x[:, -before:].index_select(0, chunks.previous)])
        x = torch.cat([earlier, x], dim=1)
        out = torch.empty_like(x[:, before:])
        for inputs, sums in zip(x.split(AT_A_TIME), out.split(AT_A_TIME), strict=True):
            torch.mul(inputs[:, before:], taps[-1], out=sums)
            for j in range(before):
                sums.addcmul_(inputs[:, j : j - before], taps[j])
        ctx.save_for_backward(x, taps, out)
        ctx.chunks = chunks
        return F.silu(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, taps, out = ctx.saved_tensors
        before, L = len(taps) - 1, out.shape[1]
        of_x, of_taps = torch.zeros_like(x), torch.zeros_like(taps)
        pieces = zip(*(t.split(AT_A_TIME) for t in (x, out, grads[0], of_x)), strict=True)
        for inputs, sums, grad, of_inputs in pieces:
            grad = torch.ops.aten.silu_backward(grad, sums)
            for j in range(before + 1):
                of_inputs[:, j : j + L].addcmul_(grad, taps[j])
                of_taps[j] += (grad * inputs[:, j : j + L]).sum((0, 1))
        earlier, of_x = of_x.split([before, L], dim=1)
        of_window, of_previous = earlier.split([len(ctx.chunks.owner), len(ctx.chunks.previous)])
        of_x = of_x.contiguous()
        # A chunk precedes one other at most.
        of_x[ctx.chunks.previous, -before:] += of_previous
        return of_x, of_window, of_taps, None
