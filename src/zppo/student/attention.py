"""Attention of a prompt's G responses to keys and values that exist once a prompt.

The queries of all responses to a prompt meet its keys in one batched product, each response's own
keys in another, and one softmax runs over both ("cascade" or "bifurcated" attention). Nothing is
approximated: it is the softmax over `[prompt | response]`, in another order of summation.

transformers looks its attention up by name (`config._attn_implementation`) and passes on whatever
the cache returned for keys. Here the cache returns what says all there is to know, `Branches` while
sampling and `FlatBranches` in training; a plain tensor is attended to as always. A model whose
layers did anything else with keys would fail at once, and `can_share_attention` names the model
types for which tests show that they do not.

Shapes: B prompts, W most responses a prompt (in training: most tokens), R rows of responses, K key
heads, Q query heads a key head, P prompt columns, T response columns, N tokens of a flat pass (see
`flat.py`), D head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from zppo.errors import ModelError
from zppo.student.flat import FlatPass, Grid

NAME = "zppo_shared_prompt"

#: Types of the text part whose attention passes keys straight from the cache to the interface.
MODEL_TYPES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "qwen2_5_vl_text", "qwen2_vl_text"}
    | {"qwen3_5_text", "qwen3_vl_text", "smollm3"}
)

_FLASH = "_scaled_dot_product_flash_attention_for_cpu"
_KERNELS = (_FLASH, _FLASH + "_backward")


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Which response of which prompt each row is: row r has place `slots[r]` in a grid of B
    prompts by `width` responses. `slots` is None where row r has place r."""

    prompts: int
    width: int
    slots: Tensor | None = None

    @classmethod
    def of(cls, owner: Tensor, prompts: int) -> Layout:
        """From each row's prompt (R,), rows of one prompt adjacent."""
        count = torch.bincount(owner, minlength=prompts)
        width = int(count.max())
        if len(owner) == prompts * width:
            return cls(prompts, width)
        first = count.cumsum(0) - count
        place = torch.arange(len(owner), device=owner.device) - first[owner]
        return cls(prompts, width, owner * width + place)

    def by_prompt(self, rows: Tensor) -> Tensor:
        """(R, K, X, D) to (B, K, W * X, D); places without a row are zero."""
        _, K, X, D = rows.shape
        if self.slots is not None:
            grid = rows.new_zeros(self.prompts * self.width, K, X, D)
            rows = grid.index_copy_(0, self.slots, rows)
        grid = rows.view(self.prompts, self.width, K, X, D).transpose(1, 2)
        return grid.reshape(self.prompts, K, self.width * X, D)

    def by_row(self, grid: Tensor) -> Tensor:
        """(B, K, W * X, D) back to (R, K, X, D)."""
        B, K, WX, D = grid.shape
        rows = grid.view(B, K, self.width, WX // self.width, D).transpose(1, 2)
        rows = rows.reshape(B * self.width, K, WX // self.width, D)
        return rows if self.slots is None else rows.index_select(0, self.slots)


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """What the next token of R responses attends to in a layer.

    prompt_keys, prompt_values   (B, K, P, D)
    bias                         (B, 1, 1, P), -inf at left padding; None without padding
    own                          pairs of the responses' own keys and values, (R, K, T, D) each,
                                 one after the other
    used                         how many columns of the last pair are in use, the first ones
    """

    prompt_keys: Tensor
    prompt_values: Tensor
    bias: Tensor | None
    own: tuple[tuple[Tensor, Tensor], ...]
    used: int
    layout: Layout


@dataclass(frozen=True, slots=True, eq=False)
class FlatBranches:
    """Keys and values (1, K, N, D) of all N tokens of a flat pass, prompts and responses."""

    keys: Tensor
    values: Tensor
    rows: FlatPass


def can_share_attention(config: Any) -> bool:
    """Whether the responses of this model may attend to a prompt that exists once."""
    return config.get_text_config().model_type in MODEL_TYPES


def share_attention(config: Any) -> None:
    """Make a model of this config understand `Branches`; it attends to tensors as before."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config.get_text_config()._attn_implementation = NAME


def shares_attention(config: Any) -> bool:
    """Whether `share_attention` was called for this config."""
    return config.get_text_config()._attn_implementation == NAME


def can_cascade(device: torch.device) -> bool:
    """Whether whole sequences can attend to `FlatBranches` with gradients. The kernel for it is not
    part of torch's public interface; a version without it repeats prompts, as a GPU does."""
    return device.type == "cpu" and all(hasattr(torch.ops.aten, name) for name in _KERNELS)


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The `bias` of left-padded prompts from their mask (B, P)."""
    if bool(mask.all()):
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(mask == 0, float("-inf"))[:, None, None]


def attention(
    module: Any,
    query: Tensor,
    key: Tensor | Branches | FlatBranches,
    value: Any,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: `query` (R, K * Q, T, D) to (R, T, K * Q, D)."""
    if not isinstance(key, Branches | FlatBranches):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    for name in ("softcap", "s_aux", "sliding_window", "position_bias"):
        if kwargs.get(name) is not None:
            raise ModelError(
                f"The attention of {type(module).__name__} uses `{name}`, which prompt sharing "
                "does not know; set student.share_prompt=false."
            )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if dropout > 0.0:
        raise ModelError("Attention dropout does not go with prompt sharing; set it to 0.")
    if isinstance(key, Branches):
        return next_token(query * scale, key).transpose(1, 2).contiguous(), None
    return _Cascade.apply(query, key.keys, key.values, key.rows, scale), None  # pyright: ignore[reportReturnType]


def next_token(query: Tensor, past: Branches) -> Tensor:
    """(R, K * Q, 1, D): one query a row, already scaled, attends to the prompt and to own keys."""
    R, heads, _, D = query.shape
    K = past.prompt_keys.shape[1]
    rows = query.view(R, K, heads // K, D)
    layout = past.layout
    of_prompt = layout.by_prompt(rows) @ past.prompt_keys.transpose(-1, -2)
    if past.bias is not None:
        of_prompt += past.bias
    scores = [layout.by_row(of_prompt), *(rows @ keys.transpose(-1, -2) for keys, _ in past.own)]
    # Over the whole of it: products copy a part first, or read it slowly.
    scores[-1][..., past.used :] = float("-inf")
    weights = torch.cat(scores, dim=-1).softmax(-1).split([x.shape[-1] for x in scores], dim=-1)
    out = layout.by_row(layout.by_prompt(weights[0]) @ past.prompt_values).flatten(0, 1)
    for weight, (_, values) in zip(weights[1:], past.own, strict=True):
        out = torch.baddbmm(out, weight.flatten(0, 1), values.flatten(0, 1))
    return out.view(R, heads, 1, D)


class _Cascade(torch.autograd.Function):
    """(1, K * Q, N, D) to (1, N, K * Q, D): causal attention of whole sequences in a flat pass, of
    the responses also to their prompts; CPU only.

    All parts run in torch's flash kernel, a block or a grid at a time, and are merged by their
    log-sum-exp. The kernel's backward only needs the softmax's output and log-sum-exp: given those
    of the merged softmax, it computes each part's share of the exact gradient. The kernel's outputs
    lie in memory as (batch, tokens, heads, D), and so all here is kept: what looks like a
    transposition seldom copies.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor, rows: FlatPass, scale: float
    ) -> Tensor:
        K, start = keys.shape[1], rows.prompts.N
        own = [
            _flash(*parts, is_causal=True, scale=scale)
            for parts in _blocks(rows, query, *_repeated(query, keys, values))
        ]
        out, lse = _flat(out for out, _ in own), _flat(lse[..., None] for _, lse in own)
        if rows.grids:
            queries = query[0, :, start:].transpose(0, 1)
            parts = [
                _flash(
                    _spread(queries, K, grid),
                    *(_of_prompts(x, grid) for x in (keys, values)),
                    attn_mask=grid.bias,
                    scale=scale,
                )
                for grid in rows.grids
            ]
            out_p = _collect((out for out, _ in parts), K, rows)
            lse_p = _collect((lse[..., None] for _, lse in parts), K, rows)
            out_r, lse_r = out[start:], lse[start:]
            merged = torch.logaddexp(lse_p, lse_r)
            out_r.copy_((out_r * (lse_r - merged).exp()).addcmul(out_p, (lse_p - merged).exp()))
            lse_r.copy_(merged)
        ctx.save_for_backward(query, keys, values, out, lse)
        ctx.rows, ctx.scale = rows, scale
        return out[None]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        query, keys, values, out, lse = ctx.saved_tensors
        rows, scale, K = ctx.rows, ctx.scale, keys.shape[1]
        start, grad = rows.prompts.N, grads[0][0]
        own = [
            _flash_backward(*parts, lse_r.squeeze(-1), 0.0, True, scale=scale)
            for *parts, lse_r in _blocks(
                rows,
                *(grad.transpose(0, 1)[None], query, *_repeated(query, keys, values)),
                *(x.transpose(0, 1)[None] for x in (out, lse)),
            )
        ]
        of_query, of_keys, of_values = (_flat(part) for part in zip(*own, strict=True))
        if query.shape[1] > K:
            of_keys, of_values = (x.unflatten(1, (K, -1)).sum(2) for x in (of_keys, of_values))
        of_queries: list[Tensor] = []
        responses = (grad, query[0].transpose(0, 1), out, lse)
        for grid in rows.grids:
            grad_p, query_p, out_p, lse_p = (_spread(x[start:], K, grid) for x in responses)
            if grid.vacant is not None:  # a softmax whose denominator is infinite: no share at all
                group = query.shape[1] // K
                lse_p = lse_p.masked_fill(grid.vacant.repeat(1, group)[:, None, :, None], torch.inf)
            of_query_p, *of_prompts = _flash_backward(
                grad_p, query_p, *(_of_prompts(x, grid) for x in (keys, values)),
                out_p, lse_p.squeeze(-1), 0.0, False, attn_mask=grid.bias, scale=scale,
            )  # fmt: skip
            of_queries.append(of_query_p)
            for sum_, part in zip((of_keys, of_values), of_prompts, strict=True):
                # What is missing has weight zero, and so gradient zero.
                sum_.index_add_(0, grid.keys.flatten(), part.transpose(1, 2).flatten(0, 1))
        if of_queries:
            of_query[start:] += _collect(of_queries, K, rows)
        of_own = (x.transpose(0, 1)[None] for x in (of_query, of_keys, of_values))
        return *of_own, None, None


def _flash(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, **options)


def _flash_backward(*args: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*args, **options)


def _repeated(query: Tensor, *key_heads: Tensor) -> list[Tensor]:
    """(1, K, N, D) each to the K * Q heads of the query."""
    groups = query.shape[1] // key_heads[0].shape[1]
    return [x if groups == 1 else x.repeat_interleave(groups, dim=1) for x in key_heads]


def _blocks(rows: FlatPass, *parts: Tensor) -> Iterator[list[Tensor]]:
    """Of (1, heads, N, X) each, block by block (rows, heads, length, X)."""
    for block in rows.blocks:
        shape = (block.rows, block.length)
        yield [x[0, :, block.tokens].unflatten(1, shape).transpose(0, 1) for x in parts]


def _flat(blocks: Iterable[Tensor]) -> Tensor:
    """(rows, heads, length, X) a block to (N, heads, X)."""
    return torch.cat([x.transpose(1, 2).flatten(0, 1) for x in blocks])


def _of_prompts(x: Tensor, grid: Grid) -> Tensor:
    """(1, K, N, D) to the grid's (b, K, P, D)."""
    rows = x[0].transpose(0, 1).index_select(0, grid.keys.flatten())
    return rows.unflatten(0, grid.keys.shape).transpose(1, 2)


def _spread(tokens: Tensor, K: int, grid: Grid) -> Tensor:
    """(N, K * Q, X) of the responses to the grid's (b, K, Q * W, X)."""
    b, W = grid.queries.shape
    rows = tokens.index_select(0, grid.queries.flatten())
    return rows.view(b, W, K, -1, tokens.shape[-1]).permute(0, 2, 3, 1, 4).flatten(2, 3)


def _collect(parts: Iterable[Tensor], K: int, rows: FlatPass) -> Tensor:
    """(b, K, Q * W, X) a grid back to (N, K * Q, X)."""
    pieces: list[Tensor] = []
    for x, grid in zip(parts, rows.grids, strict=True):
        grouped = x.unflatten(2, (-1, grid.queries.shape[1])).permute(0, 3, 1, 2, 4)
        pieces.append(grouped.flatten(2, 3).flatten(0, 1))
    return torch.cat(pieces).index_select(0, rows.places)
