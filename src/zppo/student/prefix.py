"""Prompt-once forward: each prompt runs once, with gradients, and its responses branch off.

A group is one prompt and G responses. On a CPU prompts and responses pass the layers as one row
(`flat.py`). Elsewhere the prompt's pass fills a cache whose tensors keep their graph, and responses
of like length run together on that cache, expanded to one row a response. Back-propagation sums the
G branches into the prompt by itself. The result is the same as that of plain `[prompt | response]`
rows, at a G-th of the prompt's cost and with little padding.

The cache layers here never write to a tensor in place (transformers' linear-attention
layer does, which breaks autograd) and give the same answer however often they are called (so that
activation checkpointing may repeat a layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    LinearAttentionLayer,
)

from zppo.errors import ModelError
from zppo.student.attention import FlatBranches, can_cascade, shares_attention
from zppo.student.batching import length_classes
from zppo.student.flat import FlatPass
from zppo.student.flat_delta import FlatLinear, runs_flat
from zppo.student.inputs import PromptBatch

#: What one more pass over the layers costs beside its tokens, in tokens (benchmarks/notes.md; for
#: GPUs it is an estimate).
PASS_TOKENS = {"cpu": 128, "cuda": 1_024}


class _PromptAttention(DynamicLayer):
    """Keeps the prompt's keys and values, (B, heads, P, D) each."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any):
        self.dtype, self.device = key_states.dtype, key_states.device
        self.kept = (key_states, value_states)
        return key_states, value_states

    # The pass starts from nothing, also when a checkpoint repeats it.
    def get_seq_length(self) -> int:
        return 0


class _FlatAttention(DynamicLayer):
    """Tells attention that a pass is flat; stores nothing."""

    def __init__(self, rows: FlatPass):
        super().__init__()
        self.rows = rows

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        return FlatBranches(key_states, value_states, self.rows), None

    # To the model's mask it looks empty: `FlatBranches` knows its own padding.
    def get_seq_length(self) -> int:
        return 0


class _BranchAttention(DynamicLayer):
    """Serves the expanded prompt, (rows, heads, P, D), to the response pass; stores nothing."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any):
        return (
            torch.cat([self.keys, key_states], dim=-2),
            torch.cat([self.values, value_states], dim=-2),
        )


class _PromptLinear(LinearAttentionLayer):
    """Keeps the convolution and recurrent states at the prompt's end.

    `has_previous_state` stays False, so the layer always starts from zero states.
    """

    def update_conv_state(
        self,
        conv_states: Tensor,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **_: Any,
    ) -> Tensor:
        kernel = conv_kernel_size or conv_states.shape[-1]
        missing = kernel - conv_states.shape[-1]
        padded = F.pad(conv_states, (missing, 0)) if missing > 0 else conv_states
        self.conv_states[state_idx] = padded[..., -kernel:]
        return padded

    def update_recurrent_state(
        self, recurrent_states: Tensor, state_idx: int = 0, **_: Any
    ) -> Tensor:
        self.recurrent_states[state_idx] = recurrent_states
        return recurrent_states


class _BranchLinear(LinearAttentionLayer):
    """Serves the prompt's states to the response pass; stores nothing."""

    def __init__(self, prompt: _PromptLinear, rows: Tensor):
        super().__init__(number_of_states=prompt.number_of_states)
        for i in range(prompt.number_of_states):
            conv, recurrent = prompt.conv_states[i], prompt.recurrent_states[i]
            self.conv_states[i] = None if conv is None else conv.index_select(0, rows)
            self.recurrent_states[i] = (
                None if recurrent is None else recurrent.index_select(0, rows)
            )
            self.has_previous_state[i] = True

    def update_conv_state(
        self,
        conv_states: Tensor,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **_: Any,
    ) -> Tensor:
        kept = self.conv_states[state_idx]
        assert kept is not None
        return torch.cat([kept, conv_states], dim=-1)

    def update_recurrent_state(
        self, recurrent_states: Tensor, state_idx: int = 0, **_: Any
    ) -> Tensor:
        return recurrent_states


def can_share_prompt(config: Any) -> bool:
    """Whether every layer of the model is one that `prompt_cache` knows."""
    return all(type(x) in (DynamicLayer, LinearAttentionLayer) for x in _layers_of(config))


def prompt_cache(config: Any) -> DynamicCache:
    """An empty cache for the prompt pass. Raises `ModelError` for layers it does not know."""
    layers: list[Any] = []
    for layer in _layers_of(config):
        if type(layer) is DynamicLayer:
            layers.append(_PromptAttention())
        elif type(layer) is LinearAttentionLayer:
            if not hasattr(layer, "number_of_states"):
                raise ModelError(
                    "student.engine=local trains models with linear attention on transformers "
                    f"5.19 or later, and {transformers.__version__} is here."
                )
            layers.append(_PromptLinear(number_of_states=layer.number_of_states))
        else:
            raise ModelError(
                f"`{config.model_type}` has a {type(layer).__name__}, which prompt-once training "
                "does not know; set student.share_prompt=false."
            )
    cache = DynamicCache(config=config)
    cache.layers = layers
    return cache


def branch_cache(prompt: Cache, rows: Tensor) -> Cache:
    """The prompts' cache repeated for one row a response; `rows` (R,) names each one's prompt."""
    layers: list[Any] = []
    for layer in prompt.layers:
        if isinstance(layer, _PromptAttention):
            layers.append(_BranchAttention(*(x.index_select(0, rows) for x in layer.kept)))
        else:
            assert isinstance(layer, _PromptLinear)
            layers.append(_BranchLinear(layer, rows))
    return Cache(layers=layers)


def flat_cache(config: Any, rows: FlatPass) -> Cache:
    """The cache of a flat pass."""
    layers: list[Any] = [
        _FlatAttention(rows) if isinstance(layer, _PromptAttention) else FlatLinear(rows)
        for layer in prompt_cache(config).layers
    ]
    return Cache(layers=layers)


def _layers_of(config: Any) -> list[Any]:
    return list(DynamicCache(config=config).layers)


def response_hidden(
    model: Any,
    prompts: PromptBatch,
    rows: Tensor,
    responses: Tensor,
    lengths: Tensor,
    share_prompt: bool,
) -> Tensor:
    """Hidden states that predict each response token.

    Args:
        model: the decoder without its LM head.
        prompts: B left-padded prompts.
        rows: (R,) index of each response's prompt.
        responses: (R, T) token ids, right-padded.
        lengths: (R,) tokens of each response.
        share_prompt: run each prompt once, or repeat it for every response (the plain form).

    Returns:
        (N, H), of the N tokens of all responses, one response after the other.
    """
    if not share_prompt:
        return _plain(model, prompts.select(rows), responses, lengths)
    device = responses.device
    classes = length_classes(lengths.tolist(), PASS_TOKENS.get(device.type, PASS_TOKENS["cuda"]))
    if passes_flat(model):
        return _flat(model, prompts, rows, responses, lengths, classes)
    cache = prompt_cache(model.config)
    out = model(**prompts.model_inputs(), past_key_values=cache, use_cache=True)
    first = out.last_hidden_state[:, -1]  # predicts the first token of each response
    hidden: list[Tensor] = []
    for chosen in (torch.tensor(c, device=device) for c in classes):
        own = lengths[chosen]
        tokens = responses[chosen, : int(own.max())]
        of_class = _branched(model, prompts, cache, first, rows[chosen], tokens, own)
        hidden.append(of_class.flatten(0, 1))
    padded = np.concatenate([np.full(len(c), int(lengths[c].max())) for c in classes])
    starts = np.empty_like(padded)
    starts[np.concatenate(classes)] = padded.cumsum() - padded
    index = [start + np.arange(n) for start, n in zip(starts, lengths.tolist(), strict=True)]
    return torch.cat(hidden).index_select(0, _index(index, device))


def passes_flat(model: Any) -> bool:
    """Whether prompts and responses pass the layers as one row, without padding of prompts: the
    CPU's flash kernel gives what merging two softmaxes takes. Elsewhere prompts are repeated."""
    device = next(model.parameters()).device
    return shares_attention(model.config) and can_cascade(device) and runs_flat(model)


def _flat(
    model: Any,
    prompts: PromptBatch,
    owner: Tensor,
    responses: Tensor,
    lengths: Tensor,
    classes: Sequence[Sequence[int]],
) -> Tensor:
    """Everything in one pass over the layers."""
    order = prompts.mask.sum(-1).argsort(stable=True)
    prompts, owner = prompts.select(order), order.argsort().index_select(0, owner)
    inputs = (lengths - 1).tolist()  # nothing is predicted from a response's last token
    sizes, owners, device = prompts.mask.sum(-1).tolist(), owner.tolist(), responses.device
    rows = FlatPass(sizes, classes, inputs, owners, device)
    tokens = [responses[list(b.members), : b.length].flatten() for b in rows.responses.blocks]
    steps = rows.responses.steps[:, None]
    positions = prompts.next_positions(rows.responses.owner, steps).transpose(-1, -2)
    hidden = model(
        **prompts.packed_with(torch.cat([*tokens, responses.new_empty(0)]), positions),
        past_key_values=flat_cache(model.config, rows),
        use_cache=True,
    ).last_hidden_state[0]
    index = [
        np.concatenate([[rows.ends[p] - 1], np.arange(rows.prompts.N + a, rows.prompts.N + a + n)])
        for p, a, n in zip(owners, rows.responses.starts, inputs, strict=True)
    ]
    return hidden.index_select(0, _index(index, device))


def _index(parts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)


def _branched(
    model: Any,
    prompts: PromptBatch,
    cache: Cache,
    first: Tensor,
    rows: Tensor,
    responses: Tensor,
    lengths: Tensor,
) -> Tensor:
    """(R, T, H): responses on the prompts' filled `cache`, repeated for each of them; `first`
    (B, H) predicts their first tokens."""
    first = first.index_select(0, rows)[:, None]
    inputs = responses[:, :-1]
    if inputs.shape[1] == 0:
        return first
    # One token would take the models' single-step decoding path, which writes in place.
    padding = max(0, 2 - inputs.shape[1])
    inputs = F.pad(inputs, (0, padding))
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    own = (steps < lengths[:, None] - 1).long()
    rest = model(
        input_ids=inputs,
        attention_mask=torch.cat([prompts.mask.index_select(0, rows), own], dim=1),
        position_ids=prompts.next_positions(rows, steps),
        past_key_values=branch_cache(cache, rows),
        use_cache=True,
    ).last_hidden_state
    return torch.cat([first, rest[:, : rest.shape[1] - padding]], dim=1)


def _plain(model: Any, prompts: PromptBatch, responses: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(responses.shape[1], device=responses.device)
    mask = steps < lengths[:, None]
    hidden = model(**prompts.followed_by(responses, mask.long()), use_cache=False).last_hidden_state
    return hidden[:, prompts.mask.shape[1] - 1 : -1][mask]
