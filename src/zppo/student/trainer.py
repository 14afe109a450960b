"""The policy update: I optimiser steps over the groups of one training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zppo.config import Config
from zppo.errors import RunError
from zppo.student.batching import Piece, micro_batches, mini_batches, with_gradient
from zppo.student.inputs import EncodedPrompt, PromptEncoder
from zppo.student.losses import chunked_logprobs, policy_loss
from zppo.student.optimizer import MasterAdamW
from zppo.student.prefix import passes_flat, response_hidden
from zppo.types import Group, Response, UpdateStats

#: What one more micro-batch costs beside its tokens, in prompt tokens, where prompts of different
#: length are padded to each other (an estimate for GPUs).
BATCH_TOKENS = 4_096
#: Entries of logits (32 MiB in fp32) that are rather kept than computed twice.
SMALL_LOGITS = 2**23
#: Prompts of a micro-batch by the position of their group.
Encoded = dict[int, EncodedPrompt]


@dataclass(frozen=True, slots=True, eq=False)
class ResponseRows:
    """R right-padded responses of a micro-batch.

    owner    (R,) index of each response's prompt
    ids      (R, T) int64
    lengths  (R,)
    mask     (R, T), True for tokens
    """

    owner: Tensor
    ids: Tensor
    lengths: Tensor
    mask: Tensor


class PolicyTrainer:
    """Learns from groups. `decoder` is the model without its LM `head`."""

    def __init__(
        self, config: Config, model: Any, decoder: Any, head: Any, encoder: PromptEncoder
    ) -> None:
        self.config, self.options = config, config.student
        self.model, self.decoder, self.head, self.encoder = model, decoder, head, encoder

    @cached_property
    def optimizer(self) -> MasterAdamW:
        """Made when first needed: evaluation and export never pay for its masters."""
        return MasterAdamW(
            [p for p in self.model.parameters() if p.requires_grad], self.config.optimizer
        )

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        """See `Student.update`."""
        self.model.train()
        responses = [r.response for g in groups for r in g.rollouts]
        tokens = [len(r.token_ids) for r in responses]
        batches = mini_batches(groups, updates, np.random.default_rng(list(seed)))
        old = self._old_logprobs(groups, responses, batches, advantages)
        totals: dict[str, float] = {}
        norms: list[float] = []
        for number, batch in enumerate(batches):
            denominator = sum(tokens[i] for piece in batch for i in piece.flat)
            self.optimizer.zero_grad()
            learning = with_gradient(batch, advantages)
            if number == 0 and not learning:
                self._measure_gap(totals, groups, batch[:1], responses)
            for micro, encoded in self.micro_batches(groups, learning, tokens):
                logprobs, mask = self.logprobs(micro, encoded, responses)
                rows = [i for piece in micro for i in piece.flat]
                loss, stats = policy_loss(
                    logprobs,
                    _pad([old[i] for i in rows], mask),
                    torch.tensor(advantages[rows], dtype=torch.float32, device=mask.device)[
                        :, None
                    ],
                    mask,
                    self.config.optimizer.clip_low,
                    self.config.optimizer.clip_high,
                    self.config.optimizer.dual_clip,
                    denominator,
                )
                if not torch.isfinite(loss):
                    raise RunError(f"The loss of update {number + 1} is {loss.item()}.")
                loss.backward()
                _add(totals, stats | {"loss": loss.detach()})
                if number == 0:
                    _add_gap(totals, logprobs, responses, rows, mask)
            norm = self.optimizer.clip()
            if not np.isfinite(norm):
                raise RunError(f"The gradient norm of update {number + 1} is {norm}.")
            self.optimizer.step()
            norms.append(norm)
        self.optimizer.zero_grad()
        return UpdateStats(len(batches), _summary(totals, norms))

    def micro_batches(
        self, groups: Sequence[Group], pieces: Sequence[Piece], tokens: Sequence[int]
    ) -> Iterator[tuple[list[Piece], Encoded]]:
        """Micro-batches with their prompts, whose pixels exist for one micro-batch at a time."""
        lengths = [0] * len(groups)
        for piece in pieces:
            lengths[piece.group] = self.encoder.length(groups[piece.group].prompt)
        budget, share = self.options.micro_batch_tokens, self.options.share_prompt
        flat = share and passes_flat(self.decoder)
        for micro in micro_batches(
            pieces, lengths, tokens, budget, share, 0 if flat else BATCH_TOKENS, not flat
        ):
            some = list(dict.fromkeys(p.group for p in micro))
            encoded = self.encoder.encode_all([groups[i].prompt for i in some])
            yield micro, dict(zip(some, encoded, strict=True))

    def logprobs(
        self,
        pieces: Sequence[Piece],
        encoded: Encoded,
        responses: Sequence[Response],
    ) -> tuple[Tensor, Tensor]:
        """(R, T) log-probs of the pieces' response tokens and their mask."""
        rows = self.rows(pieces, responses)
        hidden = self.hidden(pieces, encoded, rows)
        values = chunked_logprobs(
            hidden,
            rows.ids[rows.mask],
            self.head,
            self.config.rollout.temperature,
            self.encoder.placeholder_ids,
            self.options.logprob_chunk_tokens,
            keep_logits=len(hidden) * self.model.config.get_text_config().vocab_size
            <= SMALL_LOGITS,
        )
        return values.new_zeros(rows.mask.shape).masked_scatter(rows.mask, values), rows.mask

    def rows(self, pieces: Sequence[Piece], responses: Sequence[Response]) -> ResponseRows:
        """The pieces' responses as one batch."""
        device = self.device
        flat = [i for p in pieces for i in p.flat]
        owner = torch.tensor([i for i, p in enumerate(pieces) for _ in p.rows], device=device)
        lengths = torch.tensor([len(responses[i].token_ids) for i in flat], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        ids = _pad([responses[i].token_ids for i in flat], mask)
        return ResponseRows(owner, ids, lengths, mask)

    def hidden(self, pieces: Sequence[Piece], encoded: Encoded, rows: ResponseRows) -> Tensor:
        """(N, H) hidden states that predict each token of `rows`, row by row."""
        prompts = self.encoder.collate([encoded[p.group] for p in pieces], self.device)
        return response_hidden(
            self.decoder, prompts, rows.owner, rows.ids, rows.lengths, self.options.share_prompt
        )

    @torch.no_grad()
    def _measure_gap(
        self,
        totals: dict[str, float],
        groups: Sequence[Group],
        pieces: Sequence[Piece],
        responses: Sequence[Response],
    ) -> None:
        """The sampler/trainer gap of a step whose first mini-batch needs no forward pass."""
        tokens = [len(r.token_ids) for r in responses]
        for micro, encoded in self.micro_batches(groups, pieces, tokens):
            logprobs, mask = self.logprobs(micro, encoded, responses)
            _add_gap(totals, logprobs, responses, [i for p in micro for i in p.flat], mask)

    @torch.no_grad()
    def _old_logprobs(
        self,
        groups: Sequence[Group],
        responses: Sequence[Response],
        batches: Sequence[Sequence[Piece]],
        advantages: np.ndarray,
    ) -> list[np.ndarray]:
        """The denominators of the ratio, one (R,) a rollout: the sampler's log-probs, or those of
        a forward pass with the weights as they are before the first update."""
        recompute = self.options.old_logprobs == "recompute" or (
            # In bf16 sampler and trainer differ by more than one update moves a log-prob.
            self.options.old_logprobs == "auto" and self.model.dtype == torch.bfloat16
        )
        old = [
            np.zeros(len(r.token_ids), np.float32) if r.logprobs is None else r.logprobs
            for r in responses
        ]
        tokens = [len(r.token_ids) for r in responses]
        for batch in batches:
            stale = [
                Piece(p.group, rows, p.first)
                for p in with_gradient(batch, advantages)
                if (
                    rows := tuple(
                        r for r in p.rows if recompute or responses[p.first + r].logprobs is None
                    )
                )
            ]
            for micro, encoded in self.micro_batches(groups, stale, tokens):
                logprobs, _ = self.logprobs(micro, encoded, responses)
                for row, i in enumerate(i for piece in micro for i in piece.flat):
                    old[i] = logprobs[row, : tokens[i]].cpu().numpy()
        return old


def _pad(rows: Sequence[np.ndarray], mask: Tensor) -> Tensor:
    """Right-pad 1-D arrays with zeros to the shape of `mask`."""
    padded = np.zeros(mask.shape, dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded).to(mask.device)


def _add(totals: dict[str, float], stats: dict[str, Tensor]) -> None:
    for key, value in stats.items():
        totals[key] = totals.get(key, 0.0) + float(value)


def _add_gap(
    totals: dict[str, float],
    logprobs: Tensor,
    responses: Sequence[Response],
    rows: Sequence[int],
    mask: Tensor,
) -> None:
    """Sampler against trainer, on the first mini-batch: its weights are still the sampler's."""
    known = [(r, i) for r, i in enumerate(rows) if responses[i].logprobs is not None]
    if not known:
        return
    index = torch.tensor([r for r, _ in known], device=mask.device)
    sampler = _pad([responses[i].logprobs for _, i in known], mask[index])  # pyright: ignore[reportArgumentType]
    gap = ((logprobs.detach()[index] - sampler) * mask[index]).abs()
    totals["gap_sum"] = totals.get("gap_sum", 0.0) + float(gap.sum())
    totals["gap_tokens"] = totals.get("gap_tokens", 0.0) + float(mask[index].sum())
    totals["gap_max"] = max(totals.get("gap_max", 0.0), float(gap.max()))


def _summary(totals: dict[str, float], norms: Sequence[float]) -> dict[str, float]:
    tokens = max(totals.get("tokens", 0.0), 1.0)
    metrics = {
        "loss": totals.get("loss", 0.0) / len(norms),
        "grad_norm": float(np.mean(norms)),
        "clip/low": totals.get("clipped_low", 0.0) / tokens,
        "clip/high": totals.get("clipped_high", 0.0) / tokens,
        "clip/dual": totals.get("clipped_dual", 0.0) / tokens,
        "kl_from_rollout": totals.get("kl", 0.0) / tokens,
        "tokens_with_gradient": totals.get("tokens", 0.0),
    }
    if "gap_tokens" in totals:
        metrics["logprob_gap/mean"] = totals["gap_sum"] / totals["gap_tokens"]
        metrics["logprob_gap/max"] = totals["gap_max"]
    return metrics
