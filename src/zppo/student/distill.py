"""The distillation baselines of method section 5: one update towards a teacher's distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from zppo.errors import RunError
from zppo.student.batching import Piece
from zppo.student.losses import token_jsd
from zppo.student.trainer import PolicyTrainer
from zppo.teacher.base import ReadsTokens
from zppo.types import Group, UpdateStats


def distill(trainer: PolicyTrainer, groups: Sequence[Group], teacher: ReadsTokens) -> UpdateStats:
    """See `Student.distill`.

    The loss is a mean over tokens in which each group weighs as one response, whatever the number
    of its rollouts:  sum_g 1/n_g sum_i sum_t JSD  /  sum_g 1/n_g sum_i |y_i|.  With equally many
    rollouts a group it is the plain token mean of the policy loss.
    """
    trainer.model.train()
    trainer.optimizer.zero_grad()
    pieces, left_out = _readable(groups, teacher.vocabulary_size)
    responses = [r.response for g in groups for r in g.rollouts]
    tokens = [len(r.token_ids) for r in responses]
    weights = {i: 1.0 / len(p.rows) for p in pieces for i in p.flat}
    denominator = sum(weights[i] * tokens[i] for i in weights)
    total = 0.0
    for micro, encoded in trainer.micro_batches(groups, pieces, tokens):
        rows = trainer.rows(micro, responses)
        ours = trainer.hidden(micro, encoded, rows)
        theirs = teacher.hidden(
            [encoded[p.group] for p in micro], rows.owner, rows.ids, rows.lengths
        )
        divergence = token_jsd(
            ours,
            trainer.head,
            theirs,
            teacher.logits,
            trainer.config.rollout.temperature,
            trainer.encoder.placeholder_ids,
            trainer.options.logprob_chunk_tokens,
        )
        weight = torch.tensor([weights[i] for p in micro for i in p.flat], device=rows.mask.device)
        loss = (divergence * weight[:, None].expand_as(rows.mask)[rows.mask]).sum() / denominator
        if not torch.isfinite(loss):
            raise RunError(f"The loss of the distillation update is {loss.item()}.")
        loss.backward()
        total += loss.item()
    norm = trainer.optimizer.clip()
    if not np.isfinite(norm):
        raise RunError(f"The gradient norm of the distillation update is {norm}.")
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    metrics = {
        "loss": total,
        "grad_norm": norm,
        "tokens_with_gradient": float(sum(tokens[i] for i in weights)),
    }
    return UpdateStats(1, metrics | ({"left_out": float(left_out)} if left_out else {}))


def _readable(groups: Sequence[Group], vocabulary: int) -> tuple[list[Piece], int]:
    """Every group as one piece, without the rollouts (their number comes second) that hold an id
    from the padding of the student's vocabulary for which the teacher has no embedding."""
    pieces: list[Piece] = []
    first, left_out = 0, 0
    for index, group in enumerate(groups):
        known = [
            i
            for i, r in enumerate(group.rollouts)
            if len(r.response.token_ids) and r.response.token_ids.max() < vocabulary
        ]
        left_out += len(group.rollouts) - len(known)
        if known:
            pieces.append(Piece(index, tuple(known), first))
        first += len(group.rollouts)
    return pieces, left_out
