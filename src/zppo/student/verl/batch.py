"""From a step's groups to the batch that verl's ranks train on: pure functions, without verl.

verl cuts a batch into one contiguous part a rank, and each part into contiguous mini-batches of one
size. `arrange` puts the rollouts into that order, so that mini-batch k holds what the embedded
engine's mini-batch k holds, whatever the number of ranks and of groups.

Rollouts without an advantage stay at home, pixels and all: they add nothing to the gradient. Their
tokens belong into the mini-batch's token mean all the same. The clipped surrogate is proportional
to the advantage, so `factor` puts them back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zppo.student.batching import mini_batches, with_gradient
from zppo.types import Group, Response

#: In place of a rollout's index: a row that only fills a mini-batch up.
PADDING = -1


@dataclass(frozen=True, slots=True, eq=False)
class PromptRow:
    """A prompt as verl's trainer takes it.

    ids             (P,) int64, visual tokens and forced prefix included
    positions       (3, P) int64 multimodal rotary positions; None for models that have none
    next_position   position of the first response token
    media           what the model's forward takes besides, by name; may load when it is read
    """

    ids: np.ndarray
    positions: np.ndarray | None
    next_position: int
    media: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """Which rollout each of verl's M rows holds.

    rollout   (M,) int64 flat index of the rollout, groups in order, or PADDING; the rows of a rank
              are contiguous, and so are those of a mini-batch within them
    update    (M,) int64 mini-batch of the row
    factor    (I,) float64: the share of its tokens that a mini-batch sends to verl, which
              multiplies its advantages
    """

    rollout: np.ndarray
    update: np.ndarray
    factor: np.ndarray

    @property
    def updates(self) -> int:
        """I, the number of mini-batches."""
        return len(self.factor)

    @property
    def mini_batch_rows(self) -> int:
        """Rows of a mini-batch, over all ranks: verl's `mini_batch_size`."""
        return len(self.rollout) // self.updates


def arrange(
    groups: Sequence[Group],
    advantages: np.ndarray,
    prompt_tokens: Sequence[int],
    updates: int,
    ranks: int,
    rng: np.random.Generator,
) -> Arrangement:
    """Deal the rollouts that have a gradient out to `updates` mini-batches and `ranks` ranks.

    `advantages` (N,), one a rollout; `prompt_tokens`, one a group. The mini-batches are those of
    `batching.mini_batches` with the same `rng`. Within one, ranks take rows in turn from the
    longest on, so they have nearly the same work. Raises `ValueError` when there are fewer
    rollouts than updates.
    """
    tokens = np.array([len(response.token_ids) for response in _responses(groups)])
    lengths = tokens + np.repeat(prompt_tokens, [len(g.rollouts) for g in groups])
    batches = mini_batches(groups, updates, rng)
    learning = [
        [i for piece in with_gradient(batch, advantages) for i in piece.flat if tokens[i]]
        for batch in batches
    ]
    # A mini-batch without gradient takes its (decaying) optimiser step all the same.
    depth = max(1, *(-(-len(rows) // ranks) for rows in learning))
    seats = np.full((ranks, updates, depth), PADDING, dtype=np.int64)
    factor = np.empty(updates)
    for update, (batch, rows) in enumerate(zip(batches, learning, strict=True)):
        for place, i in enumerate(sorted(rows, key=lambda i: -lengths[i])):
            turn, rank = divmod(place, ranks)
            seats[rank if turn % 2 == 0 else ranks - 1 - rank, update, turn] = i
        padding = ranks * depth - len(rows)
        every = sum(int(tokens[i]) for piece in batch for i in piece.flat)
        factor[update] = (int(tokens[rows].sum()) + padding) / max(every, 1)
    numbers = np.broadcast_to(np.arange(updates)[None, :, None], seats.shape)
    return Arrangement(seats.reshape(-1), numbers.reshape(-1), factor)


def forward_inputs(
    arrangement: Arrangement, groups: Sequence[Group], prompts: Sequence[PromptRow]
) -> dict[str, Any]:
    """What verl's `compute_log_prob` and `update_actor` both take, M rows; `prompts` has one entry
    a group.

    prompts, responses, input_ids   (M, jagged) int64
    position_ids                    (M, jagged), or (M, 4, jagged): text and multimodal positions
    response_mask                   (M, jagged) int64 over the response: what the loss runs over
    loss_mask                       likewise: what the token mean counts
    multi_modal_inputs              a list of M mappings; only where a prompt has media

    Rows of one group share their `media`, which is never copied here.
    """
    rows = _rows(arrangement, groups, prompts)
    spatial = any(prompt.positions is not None for prompt in prompts)
    asked, answers = [prompt.ids for prompt, _ in rows], [answer for _, answer in rows]
    lengths = [len(ids) for ids in answers]
    real = (arrangement.rollout != PADDING).astype(np.int64)
    inputs: dict[str, Any] = {
        "prompts": _jagged(asked),
        "responses": _jagged(answers),
        "input_ids": _jagged(
            [part for row in zip(asked, answers, strict=True) for part in row], a_row=2
        ),
        "position_ids": _positions(rows, spatial),
        "response_mask": _of_lengths(np.repeat(real, lengths), lengths),
        # Rows of padding count, as `factor` knows: no mini-batch's token mean divides by zero.
        "loss_mask": _of_lengths(np.ones(sum(lengths), dtype=np.int64), lengths),
    }
    if any(prompt.media for prompt in prompts):
        inputs["multi_modal_inputs"] = [prompt.media or {} for prompt, _ in rows]
    return inputs


def loss_inputs(
    arrangement: Arrangement, advantages: np.ndarray, old_logprobs: Sequence[np.ndarray]
) -> dict[str, Tensor]:
    """What `update_actor` takes besides: `advantages` and `old_log_probs`, (M, jagged) float32.

    `advantages` (N,), one a rollout; `old_logprobs`, M arrays, one a row.
    """
    lengths = [len(row) for row in old_logprobs]
    own = np.where(arrangement.rollout == PADDING, 0.0, advantages[arrangement.rollout])
    scaled = (own * arrangement.factor[arrangement.update]).astype(np.float32)
    return {
        "advantages": _of_lengths(np.repeat(scaled, lengths), lengths),
        "old_log_probs": _jagged([np.asarray(row, dtype=np.float32) for row in old_logprobs]),
    }


def logprob_options(temperature: float) -> dict[str, Any]:
    """The options that travel with `compute_log_prob`."""
    return {"temperature": temperature, "calculate_entropy": False, "compute_loss": False}


def update_options(arrangement: Arrangement, temperature: float) -> dict[str, Any]:
    """The options that travel with `update_actor`: one pass over the rows as they stand."""
    return {
        "temperature": temperature,
        "calculate_entropy": False,
        "compute_loss": True,
        "mini_batch_size": arrangement.mini_batch_rows,
        "global_batch_size": arrangement.mini_batch_rows,
        "epochs": 1,
        "dataloader_kwargs": {"shuffle": False},
    }


def response_logprobs(log_probs: Any, responses: Any) -> list[np.ndarray]:
    """M arrays (R,) float32, one a row, from the `log_probs` (M, jagged) that `compute_log_prob`
    gives over whole rows: entry t of a row is the log-prob of its token t + 1. `responses` are
    those of `forward_inputs`."""
    values, ends = log_probs.values().float().numpy(), log_probs.offsets()[1:].tolist()
    lengths = responses.offsets().diff().tolist()
    return [values[end - n - 1 : end - 1] for end, n in zip(ends, lengths, strict=True)]


def sampled_logprobs(arrangement: Arrangement, groups: Sequence[Group]) -> list[np.ndarray] | None:
    """M arrays (R,) of the sampler's own log-probs, None where a rollout has none."""
    responses = _responses(groups)
    rows: list[np.ndarray] = []
    for i in arrangement.rollout.tolist():
        known = np.zeros(1, dtype=np.float32) if i == PADDING else responses[i].logprobs
        if known is None:
            return None
        rows.append(known)
    return rows


def _responses(groups: Sequence[Group]) -> list[Response]:
    return [rollout.response for group in groups for rollout in group.rollouts]


def _rows(
    arrangement: Arrangement, groups: Sequence[Group], prompts: Sequence[PromptRow]
) -> list[tuple[PromptRow, np.ndarray]]:
    """Prompt and response tokens of each row; one token of each for padding."""
    token = np.zeros(1, dtype=np.int64)
    filler = (PromptRow(token, np.zeros((3, 1), dtype=np.int64), 1), token)
    owner = np.repeat(np.arange(len(groups)), [len(g.rollouts) for g in groups]).tolist()
    responses = _responses(groups)
    return [
        filler if i == PADDING else (prompts[owner[i]], responses[i].token_ids)
        for i in arrangement.rollout.tolist()
    ]


def _positions(rows: Sequence[tuple[PromptRow, np.ndarray]], spatial: bool) -> Tensor:
    lengths = [len(prompt.ids) + len(answer) for prompt, answer in rows]
    text = np.concatenate([np.arange(n) for n in lengths])
    if not spatial:
        return _of_lengths(text, lengths)
    values = np.empty((4, len(text)), dtype=np.int64)
    values[0] = text
    start = 0
    for (prompt, answer), length in zip(rows, lengths, strict=True):
        assert prompt.positions is not None, "a model has multimodal positions or it has not"
        middle = start + len(prompt.ids)
        values[1:, start:middle] = prompt.positions
        values[1:, middle : start + length] = prompt.next_position + np.arange(len(answer))
        start += length
    return _of_lengths(values, lengths)


def _jagged(parts: Sequence[np.ndarray], a_row: int = 1) -> Tensor:
    """Rows of `a_row` consecutive parts each, as one jagged tensor."""
    lengths = np.array([len(part) for part in parts]).reshape(-1, a_row).sum(axis=1)
    return _of_lengths(np.concatenate(parts), lengths.tolist())


def _of_lengths(values: np.ndarray, lengths: Sequence[int]) -> Tensor:
    """(M, *, jagged): the last dimension of `values`, cut into rows."""
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return torch.nested.nested_tensor_from_jagged(
        torch.from_numpy(values), offsets, jagged_dim=values.ndim
    )
