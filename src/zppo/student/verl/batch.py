"""From a step's groups to what verl's ranks train on: pure functions, without verl.

`arrange` says which rank trains on which rollouts, and in which order: verl cuts a rank's rows into
contiguous mini-batches of one size, so mini-batch k holds what the embedded engine's mini-batch k
holds, whatever the number of ranks and of groups. `deal` packs the rows of each rank for the
journey: a token once, a prompt once, pixels as references. On the rank, `forward_inputs` and
`loss_inputs` make verl's tensors of them; made on the driver, they would be ten times as large.

Rollouts without an advantage stay at home, pixels and all: they add nothing to the gradient. Their
tokens belong into the mini-batch's token mean all the same. The clipped surrogate is proportional
to the advantage, so `factor` puts them back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    ranks     data-parallel ranks
    """

    rollout: np.ndarray
    update: np.ndarray
    factor: np.ndarray
    ranks: int

    @property
    def updates(self) -> int:
        """I, the number of mini-batches."""
        return len(self.factor)

    @property
    def mini_batch_rows(self) -> int:
        """Rows of a mini-batch, over all ranks: verl's `mini_batch_size`."""
        return len(self.rollout) // self.updates


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The m rows of one rank, as small as they can travel.

    prompts      the prompts that its rows have, each once
    prompt       (m,) int64 index into `prompts`, or PADDING
    lengths      (m,) int64 tokens of each response; 1 for padding
    tokens       (sum of lengths,) int32, the responses one after the other
    logprobs     likewise float32, the sampler's; None where a rollout has none
    advantages   (m,) float32, `Arrangement.factor` included
    """

    prompts: tuple[PromptRow, ...]
    prompt: np.ndarray
    lengths: np.ndarray
    tokens: np.ndarray
    logprobs: np.ndarray | None
    advantages: np.ndarray

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """One value a response token -> one array a row."""
        return np.split(values, np.cumsum(self.lengths)[:-1])


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
    return Arrangement(seats.reshape(-1), numbers.reshape(-1), factor, ranks)


def deal(
    arrangement: Arrangement,
    groups: Sequence[Group],
    prompts: Sequence[PromptRow],
    advantages: np.ndarray,
) -> list[Rows]:
    """The rows of each rank. `prompts` has one entry a group, `advantages` (N,) one a rollout."""
    responses = _responses(groups)
    owner = np.repeat(np.arange(len(groups)), [len(g.rollouts) for g in groups])
    padding = arrangement.rollout == PADDING
    scaled = arrangement.factor[arrangement.update] * advantages[arrangement.rollout]
    scaled = np.where(padding, 0.0, scaled).astype(np.float32)
    small = [_small(prompt) for prompt in prompts]
    dealt: list[Rows] = []
    for part in np.split(np.arange(len(padding)), arrangement.ranks):
        rollouts = arrangement.rollout[part]
        mine = [_FILLER if i == PADDING else responses[i] for i in rollouts.tolist()]
        used, prompt = np.unique(owner[rollouts], return_inverse=True)
        logprobs = [response.logprobs for response in mine]
        dealt.append(
            Rows(
                prompts=tuple(small[i] for i in used.tolist()),
                prompt=np.where(padding[part], PADDING, prompt),
                lengths=np.array([len(response.token_ids) for response in mine]),
                tokens=np.concatenate(
                    [r.token_ids for r in mine], dtype=np.int32, casting="unsafe"
                ),
                logprobs=None
                if any(row is None for row in logprobs)
                else np.concatenate(logprobs, dtype=np.float32),  # pyright: ignore[reportArgumentType, reportCallIssue]
                advantages=scaled[part],
            )
        )
    return dealt


def forward_inputs(rows: Rows) -> dict[str, Any]:
    """What verl's `compute_log_prob` and `update_actor` both take, for the m rows of a rank.

    prompts, responses, input_ids   (m, jagged) int64
    position_ids                    (m, jagged), or (m, 4, jagged): text and multimodal positions
    response_mask                   (m, jagged) int64 over the response: what the loss runs over
    loss_mask                       likewise: what the token mean counts
    multi_modal_inputs              a list of m mappings; only for models with multimodal positions
    """
    spatial = any(prompt.positions is not None for prompt in rows.prompts)
    asked = [_PADDING_ROW if i == PADDING else rows.prompts[i] for i in rows.prompt.tolist()]
    tokens = rows.tokens.astype(np.int64)
    answers = rows.split(tokens)
    ids = [prompt.ids.astype(np.int64) for prompt in asked]
    real = (rows.prompt != PADDING).astype(np.int64)
    inputs: dict[str, Any] = {
        "prompts": _jagged(ids),
        "responses": _of_lengths(tokens, rows.lengths),
        "input_ids": _jagged([part for row in zip(ids, answers, strict=True) for part in row], 2),
        "position_ids": _positions(asked, rows.lengths, spatial),
        "response_mask": _of_lengths(np.repeat(real, rows.lengths), rows.lengths),
        # Rows of padding count, as `factor` knows: no mini-batch's token mean divides by zero.
        "loss_mask": _of_lengths(np.ones(len(tokens), dtype=np.int64), rows.lengths),
    }
    if spatial:
        inputs["multi_modal_inputs"] = [prompt.media or {} for prompt in asked]
    return inputs


def loss_inputs(rows: Rows, old_logprobs: np.ndarray) -> dict[str, Tensor]:
    """What `update_actor` takes besides: `advantages` and `old_log_probs`, (m, jagged) float32.

    `old_logprobs` (sum of lengths,): of the responses, one after the other.
    """
    return {
        "advantages": _of_lengths(np.repeat(rows.advantages, rows.lengths), rows.lengths),
        # Ray hands out memory that must not be written to.
        "old_log_probs": _of_lengths(old_logprobs.copy(), rows.lengths),
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


def response_logprobs(rows: Rows, log_probs: Any) -> np.ndarray:
    """(sum of lengths,) float32 log-probs of the responses, one after the other. `log_probs`
    (m, jagged) is what `compute_log_prob` gives over whole rows: entry t of a row is the log-prob
    of its token t + 1."""
    values, ends = log_probs.values().float().numpy(), log_probs.offsets()[1:].tolist()
    pairs = zip(ends, rows.lengths.tolist(), strict=True)
    return np.concatenate([values[end - n - 1 : end - 1] for end, n in pairs])


_TOKEN = np.zeros(1, dtype=np.int64)
#: A row of padding: one token of a prompt, one of a response.
_PADDING_ROW = PromptRow(_TOKEN, np.zeros((3, 1), dtype=np.int64), 1)
_FILLER = Response(_TOKEN, np.zeros(1, dtype=np.float32), "", True)


def _responses(groups: Sequence[Group]) -> list[Response]:
    return [rollout.response for group in groups for rollout in group.rollouts]


def _small(prompt: PromptRow) -> PromptRow:
    positions = None if prompt.positions is None else prompt.positions.astype(np.int32)
    return replace(prompt, ids=prompt.ids.astype(np.int32), positions=positions)


def _positions(asked: Sequence[PromptRow], answers: np.ndarray, spatial: bool) -> Tensor:
    lengths = np.array([len(prompt.ids) for prompt in asked]) + answers
    starts = np.cumsum(lengths) - lengths
    text = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    if not spatial:
        return _of_lengths(text, lengths)
    values = np.empty((4, len(text)), dtype=np.int64)
    values[0] = text
    for prompt, start, end in zip(asked, starts, starts + lengths, strict=True):
        assert prompt.positions is not None, "a model has multimodal positions or it has not"
        middle = start + len(prompt.ids)
        values[1:, start:middle] = prompt.positions
        values[1:, middle:end] = prompt.next_position + np.arange(end - middle)
    return _of_lengths(values, lengths)


def _jagged(parts: Sequence[np.ndarray], a_row: int = 1) -> Tensor:
    """Rows of `a_row` consecutive parts each, as one jagged tensor."""
    lengths = np.array([len(part) for part in parts]).reshape(-1, a_row).sum(axis=1)
    return _of_lengths(np.concatenate(parts), lengths)


def _of_lengths(values: np.ndarray, lengths: np.ndarray) -> Tensor:
    """(m, *, jagged): the last dimension of `values`, cut into rows."""
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return torch.nested.nested_tensor_from_jagged(
        torch.from_numpy(values), offsets, jagged_dim=values.ndim
    )
