"""The state of a batch of responses while they are sampled, one token a row at a time."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from zppo.student.attention import Branches, Layout, padding_bias, shares_attention
from zppo.student.prefix import can_share_prompt

# Own keys of a response are allocated for this many more tokens at a time. Each new block copies
# what there is once; what there is is read for each of the tokens.
BLOCK = 64
# Prompts without a live response leave the batch when fewer than this share of them has one.
DROP_PROMPTS_BELOW = 0.8


class Rows(Protocol):
    """R responses that are being sampled."""

    def inputs(self) -> dict[str, Any]:
        """What the model's forward takes beside tokens and positions, for one more token."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        ...


def branch(model: Any, prompt: Cache, mask: Tensor, owner: Tensor, limit: int) -> Rows:
    """Rows that continue the B prompts in a filled cache.

    `mask` (B, P) is the prompts', `owner` (R,) each row's prompt, `limit` the most tokens a row.
    """
    if shares_attention(model.config) and can_share_prompt(model.config):
        return SharedRows(prompt, mask, owner, limit)
    return RepeatedRows(prompt, mask, owner)


class RepeatedRows:
    """transformers' own cache, with the prompt repeated for every row: for any model."""

    def __init__(self, prompt: Any, mask: Tensor, owner: Tensor):
        self.cache, self.mask = prompt, mask
        self.keep(owner)

    def inputs(self) -> dict[str, Any]:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        return {"past_key_values": self.cache, "attention_mask": self.mask}

    def keep(self, rows: Tensor) -> None:
        self.cache.reorder_cache(rows)
        self.mask = self.mask.index_select(0, rows)


class SharedRows:
    """Keys and values of a prompt exist once; those of the responses grow in blocks."""

    def __init__(self, prompt: Any, mask: Tensor, owner: Tensor, limit: int):
        self.owner, self.prompts = owner, len(mask)
        layout = Layout.of(owner, self.prompts)
        bias: dict[torch.dtype, Tensor | None] = {}
        layers: list[Any] = []
        for layer in prompt.layers:
            if isinstance(layer, DynamicLayer):
                assert layer.keys is not None and layer.values is not None
                dtype = layer.keys.dtype
                if dtype not in bias:
                    bias[dtype] = padding_bias(mask, dtype)
                layers.append(
                    _ResponseAttention(layer.keys, layer.values, bias[dtype], layout, limit)
                )
            else:
                layer.reorder_cache(owner)
                layers.append(layer)
        self.cache: Any = Cache(layers=layers)

    def inputs(self) -> dict[str, Any]:
        # No mask: own keys have no padding, and the prompt's is in its bias.
        return {"past_key_values": self.cache, "attention_mask": None}

    def keep(self, rows: Tensor) -> None:
        self.owner = self.owner.index_select(0, rows)
        live = self.owner.unique()
        prompts = None
        if len(live) < DROP_PROMPTS_BELOW * self.prompts:
            prompts = live
            self.owner = torch.searchsorted(live, self.owner)
            self.prompts = len(live)
        layout = Layout.of(self.owner, self.prompts)
        for layer in self.cache.layers:
            if isinstance(layer, _ResponseAttention):
                layer.keep(rows, prompts, layout)
            else:
                layer.reorder_cache(rows)


class _ResponseAttention(DynamicLayer):
    """Own keys and values of R responses, (R, K, capacity, D) of which `length` are in use.

    To the model it looks empty: its mask and positions are given, and what is attended to is
    what `update` returns.
    """

    keys: Tensor
    values: Tensor

    def __init__(
        self, keys: Tensor, values: Tensor, bias: Tensor | None, layout: Layout, limit: int
    ):
        super().__init__()
        self.prompt_keys, self.prompt_values = keys, values
        self.bias, self.layout, self.limit = bias, layout, limit
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        start, self.length = self.length, self.length + key_states.shape[2]
        if start == 0:
            self.keys, self.values = (x[:, :, :0] for x in (key_states, value_states))
        if self.length > self.keys.shape[2]:
            self.keys, self.values = (self._grown(x) for x in (self.keys, self.values))
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        past = Branches(
            self.prompt_keys,
            self.prompt_values,
            self.bias,
            self.keys,
            self.values,
            self.layout,
            self.length,
        )
        return past, None

    def keep(self, rows: Tensor, prompts: Tensor | None, layout: Layout) -> None:
        if self.length > 0:
            self.keys, self.values = (x.index_select(0, rows) for x in (self.keys, self.values))
        self.layout = layout
        if prompts is not None:
            self.prompt_keys = self.prompt_keys.index_select(0, prompts)
            self.prompt_values = self.prompt_values.index_select(0, prompts)
            self.bias = None if self.bias is None else self.bias.index_select(0, prompts)

    def get_seq_length(self) -> int:
        return 0

    def _grown(self, block: Tensor) -> Tensor:
        R, K, used, D = block.shape
        # Zeros: columns not in use have weight zero, which a NaN would survive.
        larger = block.new_zeros(R, K, min(used + BLOCK, self.limit), D)
        larger[:, :, :used] = block
        return larger
