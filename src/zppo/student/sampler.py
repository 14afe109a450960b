"""Group sampler: one prefill a prompt shared by its G responses, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from zppo.config import EvaluationConfig, RolloutConfig
from zppo.errors import RunError
from zppo.student import kernels
from zppo.student.decoding import branch, own_step
from zppo.student.inputs import PromptBatch
from zppo.student.lanes import in_lanes
from zppo.student.linear import packed_weights
from zppo.student.losses import sampling_logits
from zppo.student.qwen_step import QwenStep

# Removing finished rows copies the cache once; below this share of live rows it has paid off.
COMPACT_BELOW = 0.8
# Tokens between two questions to a GPU whether rows have finished.
CHECK_EVERY = 8
# Tokens of each response for which random numbers are drawn at once.
DRAWN_AHEAD = 64
# Entries of the vocabulary whose probabilities are summed before one of them is drawn.
BLOCK = 256
# Logits from which tokens are drawn at a time on a CPU. One megabyte in fp32 stays in the cache,
# and malloc keeps it: larger pieces go back to the system and come back page by page.
DRAW_CHUNK = 2**18


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and the
    penalties' neutral values are off. Penalties look at generated tokens only."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 12_288

    @classmethod
    def of(cls, config: RolloutConfig | EvaluationConfig) -> Sampling:
        """The sampling part of a training or evaluation config."""
        extra = (
            {"min_p": config.min_p, "repetition_penalty": config.repetition_penalty}
            if isinstance(config, RolloutConfig)
            else {}
        )
        return cls(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            presence_penalty=config.presence_penalty,
            max_tokens=config.max_response_tokens,
            **extra,
        )

    @property
    def truncates(self) -> bool:
        """Whether tokens are cut away before one is drawn."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


@dataclass(frozen=True, slots=True, eq=False)
class SampledGroup:
    """Token ids and log-probs of the G responses to one prompt; each pair has shape (R_g,)."""

    token_ids: list[np.ndarray]
    logprobs: list[np.ndarray]
    finished: list[bool]


@torch.no_grad()
def sample_groups(
    model: Any,
    head: nn.Module,
    prompts: PromptBatch,
    n: int,
    sampling: Sampling,
    stop_ids: Sequence[int],
    banned: Sequence[int],
    seeds: Sequence[Sequence[int]],
    abandoned: Callable[[], bool] = lambda: False,
) -> list[SampledGroup]:
    """Sample `n` responses for each of B prompts.

    `model` is the decoder without its LM head. `banned` ids have probability zero. `seeds` has the
    numbers that a prompt's draws follow from, whatever is sampled beside it. Log-probs are
    natural logs under the distribution at `temperature` with banned ids removed, before top-k,
    top-p, min-p and penalties; at temperature 0 they are those of temperature 1. `abandoned` is
    asked before each token; once it says so, sampling ends and the responses are worthless.
    Raises `RunError` when the model's logits are not finite.
    """

    def sample(some: Sequence[int]) -> list[SampledGroup]:
        part = prompts if len(some) == len(seeds) else prompts.select(torch.tensor(some))
        numbers = [seeds[i] for i in some]
        return _sample(model, head, step, part, n, sampling, stop_ids, banned, numbers, abandoned)

    step = own_step(model)  # it has a copy of the weights: one for all lanes
    if step is None:
        with packed_weights(model, head):
            return sample(range(len(seeds)))
    with packed_weights(head):
        return in_lanes(sample, range(len(seeds)), n, torch.get_num_threads())


@torch.no_grad()
def _sample(
    model: Any,
    head: nn.Module,
    step: QwenStep | None,
    prompts: PromptBatch,
    n: int,
    sampling: Sampling,
    stop_ids: Sequence[int],
    banned: Sequence[int],
    seeds: Sequence[Sequence[int]],
    abandoned: Callable[[], bool],
) -> list[SampledGroup]:
    """`sample_groups`, in one thread."""
    device = prompts.ids.device
    B = len(prompts.ids)
    cache: Any = DynamicCache(config=model.config)
    out = model(**prompts.model_inputs(), past_key_values=cache, use_cache=True)
    owner = torch.arange(B, device=device).repeat_interleave(n)
    hidden = out.last_hidden_state[:, -1].index_select(0, owner)

    limit = sampling.max_tokens
    rows = branch(model, step, cache, prompts.mask, owner, limit)
    del cache, out  # what is needed of them is in `rows`
    live = torch.arange(B * n, device=device)  # which response each batch row is
    finished = torch.zeros(B * n, dtype=torch.bool, device=device)  # of the batch's rows
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []  # response, token and log-prob of each row
    stops = torch.tensor(sorted(stop_ids), device=device)
    seen = _SeenTokens(sampling, B * n)
    points = _Points(seeds, n, device)
    # Asking how many rows are alive makes a GPU wait, so there it is asked now and then.
    patience = 1 if device.type == "cpu" else CHECK_EVERY

    for t in range(limit):
        token, logprob = _draw(head(hidden), sampling, banned, seen, points.next(live))
        seen.add(token)
        drawn.append((live, token, logprob))
        # A row that has stopped may still be carried along; what it says is cut off at the end.
        finished |= torch.isin(token, stops)
        if t == limit - 1 or abandoned():
            break
        if (t + 1) % patience == 0:
            going = len(live) - int(finished.sum())
            if going == 0:
                break
            if going < COMPACT_BELOW * len(live):
                kept = (~finished).nonzero().squeeze(-1)
                rows.keep(kept)
                seen.keep(kept)
                finished = finished.new_zeros(going)
                live, owner, token = (x.index_select(0, kept) for x in (live, owner, token))
        steps = torch.tensor([t], device=device)
        hidden = rows.next(token, prompts.next_positions(owner, steps))

    return _split(drawn, B * n, n, stop_ids)


class _Points:
    """Where the next token of each response lies in its cumulative distribution. Each prompt draws
    from a stream of its own."""

    def __init__(self, seeds: Sequence[Sequence[int]], n: int, device: torch.device):
        self.streams = [np.random.default_rng(list(seed)) for seed in seeds]
        self.n, self.device = n, device
        self.ahead: Iterator[Tensor] = iter(())

    def next(self, live: Tensor) -> Tensor:
        """(R, 1) fp64 in [0, 1) for the responses `live` (R,)."""
        points = next(self.ahead, None)
        if points is None:
            block = [stream.random((DRAWN_AHEAD, self.n)) for stream in self.streams]
            self.ahead = iter(torch.from_numpy(np.concatenate(block, axis=1)).to(self.device))
            points = next(self.ahead)
        return points.index_select(0, live)[:, None]


def _draw(
    logits: Tensor,
    sampling: Sampling,
    banned: Sequence[int],
    seen: _SeenTokens,
    points: Tensor,
) -> tuple[Tensor, Tensor]:
    """A token a row and its log-prob, both (N,), from (N, V) logits of the LM head, at `points`
    (N, 1) of the cumulative distributions, each in [0, 1)."""
    N, V = logits.shape
    plain = sampling.temperature > 0.0 and not (seen.active or sampling.truncates)
    if plain and logits.device.type == "cpu":
        return _draw_plain(logits, points, sampling.temperature, banned)
    rows = max(1, DRAW_CHUNK // V)
    if rows >= N or seen.active or logits.device.type != "cpu":
        return _draw_at(logits, points, sampling, banned, seen)
    chunks = zip(logits.split(rows), points.split(rows), strict=True)
    drawn = [_draw_at(part, point, sampling, banned, seen) for part, point in chunks]
    token, logprob = zip(*drawn, strict=True)
    return torch.cat(token), torch.cat(logprob)


def _draw_plain(
    logits: Tensor, points: Tensor, temperature: float, banned: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """`_draw` from the whole distribution on a CPU; the banned tokens' logits are overwritten."""
    if max(banned, default=0) >= logits.shape[1]:
        raise IndexError(f"token {max(banned)} in a vocabulary of {logits.shape[1]}")
    token = torch.empty(len(points), dtype=torch.long)
    logprob = torch.empty(len(points))
    kernels.draw(
        kernels.array(logits), np.float32(temperature), np.array(banned, dtype=np.int64),
        points[:, 0].numpy(), BLOCK, token.numpy(), logprob.numpy(),
    )  # fmt: skip
    return token, logprob


def _draw_at(
    logits: Tensor, points: Tensor, sampling: Sampling, banned: Sequence[int], seen: _SeenTokens
) -> tuple[Tensor, Tensor]:
    """`_draw`, all rows at once."""
    logits = sampling_logits(logits, sampling.temperature or 1.0, banned)
    if sampling.temperature == 0.0:
        token = seen.penalise(logits).argmax(-1)
        return token, _logprob(logits, token, logits.logsumexp(-1))
    if seen.active or sampling.truncates:
        token, _ = _pick(truncate(seen.penalise(logits), sampling), points)
        return token, _logprob(logits, token, logits.logsumexp(-1))
    token, total = _pick(logits, points)
    return token, _logprob(logits, token, total)


def _logprob(logits: Tensor, token: Tensor, total: Tensor) -> Tensor:
    return logits.gather(-1, token[:, None]).squeeze(-1) - total


def _pick(logits: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The token at `points` (N, 1) of each row's cumulative softmax(logits), and the log of the
    softmax's denominator; both (N,).

    Inverts the cumulative distribution, first over blocks of the vocabulary and then within the
    block: two passes over (N, V) less than softmax and torch.multinomial, which also draws a
    random number for each of the N * V entries. The two stages and double precision keep the
    probability of rare tokens.
    """
    N, V = logits.shape
    top = logits.amax(-1, keepdim=True)
    weights = (logits - top).exp_()
    weights = F.pad(weights, (0, -V % BLOCK)).view(N, -1, BLOCK)
    blocks = weights.sum(-1).double().cumsum(-1)
    total = blocks[:, -1:]
    point = points * total
    block = _entry(blocks, point)
    before = torch.where(block > 0, blocks.gather(-1, (block - 1).clamp(min=0)), 0.0)
    first = torch.arange(0, N * weights.shape[1], weights.shape[1], device=logits.device)
    inside = weights.view(-1, BLOCK).index_select(0, first + block.squeeze(-1))
    # Rounding can leave a block's own sum at or below the point: then its last entry with
    # weight.
    entry = _entry(inside.cumsum(-1, dtype=torch.double), point - before)
    token = (block * BLOCK + entry).clamp(max=V - 1)
    return token.squeeze(-1), (total.log() + top).squeeze(-1).float()


def _entry(sums: Tensor, points: Tensor) -> Tensor:
    """The entry (N, 1) of each row of cumulative sums (N, X) in which its point lies; one with
    weight also where the point lies at the end or past it."""
    last = sums[:, -1:]
    points = torch.minimum(points, last.nextafter(torch.zeros_like(last)))
    # right=True: the first entry whose sum lies above the point, so never one of weight zero.
    entry = torch.searchsorted(sums, points, right=True)
    return entry.clamp(max=sums.shape[-1] - 1)  # only where logits are no numbers


def truncate(logits: Tensor, sampling: Sampling) -> Tensor:
    """Top-k, then top-p, then min-p, each on what the one before left; (N, V) to (N, V)."""
    if 0 < sampling.top_k < logits.shape[-1]:
        kth = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        probs = ordered.softmax(-1)
        # A token stays while the mass before it is under top_p, so the first one always does.
        drop = probs.cumsum(-1) - probs >= sampling.top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    if sampling.min_p > 0.0:
        probs = logits.softmax(-1)
        least = sampling.min_p * probs.amax(-1, keepdim=True)
        logits = logits.masked_fill(probs < least, float("-inf"))
    return logits


class _SeenTokens:
    """Which tokens each row has generated, kept only when a penalty needs it."""

    def __init__(self, sampling: Sampling, rows: int):
        # Penalties are meant for the model's own logits (as in vLLM and the OpenAI API); ours are
        # divided by the temperature already. For the repetition penalty, a factor, it is the same.
        self.presence = sampling.presence_penalty / (sampling.temperature or 1.0)
        self.repetition = sampling.repetition_penalty
        self.rows = rows
        self.active = self.presence != 0.0 or self.repetition != 1.0
        self.seen: Tensor | None = None

    def penalise(self, logits: Tensor) -> Tensor:
        if not self.active:
            return logits
        if self.seen is None:
            self.seen = torch.zeros_like(logits, dtype=torch.bool)
        repeated = torch.where(logits > 0, logits / self.repetition, logits * self.repetition)
        return torch.where(self.seen, repeated - self.presence, logits)

    def add(self, token: Tensor) -> None:
        if self.seen is not None:
            self.seen.scatter_(-1, token[:, None], True)

    def keep(self, rows: Tensor) -> None:
        if self.seen is not None:
            self.seen = self.seen.index_select(0, rows)


def _split(
    drawn: Sequence[tuple[Tensor, Tensor, Tensor]], responses: int, n: int, stops: Sequence[int]
) -> list[SampledGroup]:
    """Each response up to its first stop token, in groups of `n`, from the response, token and
    log-prob of each row of the batch, step by step."""
    row, token, logprob = (torch.cat(x).cpu().numpy() for x in zip(*drawn, strict=True))
    if not np.isfinite(logprob).all():  # asked once: a GPU would wait at every token
        raise RunError(
            "The student's logits are not finite, so no token can be sampled: its weights are "
            "damaged, or do not fit student.dtype."
        )
    by_response = np.argsort(row, kind="stable")
    ends = np.bincount(row, minlength=responses).cumsum()
    ids, logprobs = (np.split(x[by_response], ends[:-1]) for x in (token, logprob))
    found = [np.flatnonzero(np.isin(x, stops)) for x in ids]
    lengths = [at[0] + 1 if len(at) else len(x) for at, x in zip(found, ids, strict=True)]
    return [
        SampledGroup(
            [ids[r][: lengths[r]].copy() for r in rows],
            [logprobs[r][: lengths[r]].copy() for r in rows],
            [len(found[r]) > 0 for r in rows],
        )
        for rows in (range(first, first + n) for first in range(0, responses, n))
    ]
