"""The state of a batch of responses while they are sampled, one token a row at a time."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from zppo.student.attention import Branches, Layout, padding_bias, shares_attention
from zppo.student.prefix import can_share_prompt
from zppo.student.qwen_step import QwenRows, QwenStep, can_step

# Tokens of a block. A full one is copied once to the end of those before it, with these; what there
# is is read for each of the tokens, unused columns too.
BLOCK = 32
# Prompts without a live response leave the batch when fewer than this share of them has one.
DROP_PROMPTS_BELOW = 0.8


class Rows(Protocol):
    """R responses that are being sampled."""

    def next(self, token: Tensor, positions: Tensor) -> Tensor:
        """The hidden state (R, H) after one more token a row, (R,), at `positions`, (R, 1) or
        (3, R, 1)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        ...


def own_step(model: Any) -> QwenStep | None:
    """A step that replaces the decoder's forward while its weights stay as they are; None where
    there is none for it."""
    known = _shares_prompts(model) and can_step(model, DynamicCache(config=model.config).layers)
    return QwenStep(model) if known else None


def branch(
    model: Any, step: QwenStep | None, prompt: Any, mask: Tensor, owner: Tensor, limit: int
) -> Rows:
    """Rows that continue the B prompts in a filled cache, by the decoder's `own_step` if any.

    `mask` (B, P) is the prompts', `owner` (R,) each row's prompt, `limit` the most tokens a row.
    """
    if step is not None:
        return QwenRows(step, prompt, mask, owner, limit)
    if _shares_prompts(model):
        return SharedRows(model, prompt, mask, owner, limit)
    return RepeatedRows(model, prompt, mask, owner)


def _shares_prompts(model: Any) -> bool:
    return shares_attention(model.config) and can_share_prompt(model.config)


class RepeatedRows:
    """transformers' own cache, with the prompt repeated for every row: for any model."""

    def __init__(self, model: Any, prompt: Any, mask: Tensor, owner: Tensor):
        self.model, self.cache, self.mask = model, prompt, mask
        self.keep(owner)

    def next(self, token: Tensor, positions: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        return _forward(self.model, token, positions, self.cache, self.mask)

    def keep(self, rows: Tensor) -> None:
        self.cache.reorder_cache(rows)
        self.mask = self.mask.index_select(0, rows)


class SharedRows:
    """Keys and values of a prompt exist once; those of the responses grow in blocks."""

    def __init__(self, model: Any, prompt: Any, mask: Tensor, owner: Tensor, limit: int):
        self.model, self.owner, self.prompts = model, owner, len(mask)
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

    def next(self, token: Tensor, positions: Tensor) -> Tensor:
        # No mask: own keys have no padding, and the prompt's is in its bias.
        return _forward(self.model, token, positions, self.cache, None)

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


def _forward(
    model: Any, token: Tensor, positions: Tensor, cache: Any, mask: Tensor | None
) -> Tensor:
    return model(
        input_ids=token[:, None],
        position_ids=positions,
        past_key_values=cache,
        attention_mask=mask,
        use_cache=True,
    ).last_hidden_state[:, -1]


class _ResponseAttention(DynamicLayer):
    """Own keys and values of R responses: those of full blocks in one pair of tensors, and a block
    that fills, (R, K, X, D) each.

    To the model it looks empty: its mask and positions are given, and what is attended to is
    what `update` returns.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, bias: Tensor | None, layout: Layout, limit: int
    ):
        super().__init__()
        self.prompt_keys, self.prompt_values = keys, values
        self.bias, self.layout, self.block = bias, layout, min(BLOCK, limit)
        self.full: tuple[Tensor, Tensor] | None = None
        self.filling: tuple[Tensor, Tensor] | None = None
        self.used = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Of one token a row."""
        new = (key_states, value_states)
        if self.filling is None:
            # Zeros: columns not in use have weight zero, which a NaN would survive.
            R, K, _, D = key_states.shape
            keys, values = (x.new_zeros(R, K, self.block, D) for x in new)
            self.filling = (keys, values)
        elif self.used == self.block:
            self.full, self.used = self._with_filling(self.filling), 0
        for block, x in zip(self.filling, new, strict=True):
            block[:, :, self.used : self.used + 1] = x
        self.used += 1
        own = (self.filling,) if self.full is None else (self.full, self.filling)
        prompt = (self.prompt_keys, self.prompt_values, self.bias)
        return Branches(*prompt, own, self.used, self.layout), None

    def keep(self, rows: Tensor, prompts: Tensor | None, layout: Layout) -> None:
        self.full, self.filling = (_selected(x, rows) for x in (self.full, self.filling))
        self.layout = layout
        if prompts is not None:
            self.prompt_keys = self.prompt_keys.index_select(0, prompts)
            self.prompt_values = self.prompt_values.index_select(0, prompts)
            self.bias = None if self.bias is None else self.bias.index_select(0, prompts)

    def get_seq_length(self) -> int:
        return 0

    def _with_filling(self, filling: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if self.full is None:
            return filling[0].clone(), filling[1].clone()
        keys, values = (
            torch.cat([full, block], dim=2) for full, block in zip(self.full, filling, strict=True)
        )
        return keys, values


def _selected(pair: tuple[Tensor, Tensor] | None, rows: Tensor) -> tuple[Tensor, Tensor] | None:
    return None if pair is None else (pair[0].index_select(0, rows), pair[1].index_select(0, rows))
