"""The policy loss of method section 3, and what is computed in chunks of tokens because a row of
logits is as long as the vocabulary: log-probabilities, and the divergence of the distillation
baselines.

Shapes: B rows, T response tokens, N flattened tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

MAX_LOG_RATIO = 20.0
_LOWEST = torch.finfo(torch.float32).min


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float = 10.0,
    denominator: float | Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO surrogate with asymmetric clip, dual clip and a token-level mean.

    Args:
        logprobs: (B, T), under the current policy, with gradient.
        old_logprobs: (B, T), under the policy that sampled the tokens.
        advantages: (B, T), or (B, 1) to share one value over a response.
        mask: (B, T), 1 for response tokens, 0 for padding and forced tokens, where the other
            arguments may hold anything.
        clip_low, clip_high: the ratio is clipped to [1 - clip_low, 1 + clip_high].
        dual_clip: bound on the ratio where the advantage is negative.
        denominator: tokens of the whole mini-batch, so that micro-batches (and groups left out
            because their advantage is zero) add up to one token mean. None: the mask's own sum.

    Returns:
        The scalar loss, and detached *sums over tokens* `clipped_low`, `clipped_high`,
        `clipped_dual`, `kl` (the k3 estimate of KL(old || new)) and `tokens`.
    """
    mask = mask.to(logprobs.dtype)
    # Padding may hold anything, -inf included: it must not reach exp() or its gradient.
    log_ratio = torch.where(mask > 0, logprobs - old_logprobs, torch.zeros_like(logprobs))
    # Far outside every clip, yet exp() stays finite: an infinite ratio has a NaN gradient.
    log_ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    advantages = torch.where(mask > 0, advantages, torch.zeros_like(advantages))
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss_BT = torch.maximum(unclipped, clipped)
    floor = -advantages * dual_clip
    negative = advantages < 0
    loss_BT = torch.where(negative, torch.minimum(loss_BT, floor), loss_BT)
    total = mask.sum() if denominator is None else denominator
    loss = (loss_BT * mask).sum() / total

    with torch.no_grad():
        stats = {
            "clipped_low": ((ratio < 1.0 - clip_low) & negative).mul(mask).sum(),
            "clipped_high": ((ratio > 1.0 + clip_high) & (advantages > 0)).mul(mask).sum(),
            "clipped_dual": ((ratio > dual_clip) & negative).mul(mask).sum(),
            "kl": ((ratio - 1.0 - log_ratio) * mask).sum(),
            "tokens": mask.sum(),
        }
    return loss, stats


def chunked_logprobs(
    hidden: Tensor,
    targets: Tensor,
    head: Callable[[Tensor], Tensor],
    temperature: float = 1.0,
    banned: Sequence[int] = (),
    chunk_tokens: int = 1_024,
    keep_logits: bool = False,
) -> Tensor:
    """Log-probabilities of `targets` without ever holding an (N, V) tensor for more than a chunk.

    Args:
        hidden: (N, H) final hidden states, each the one that predicts its target.
        targets: (N,) token ids.
        head: the LM head.
        temperature, banned: the sampling distribution: logits are divided by the temperature and
            banned ids have probability zero, exactly as the sampler does it.
        chunk_tokens: N is cut into chunks of this size; each is recomputed in the backward pass.
        keep_logits: hold them all for the backward pass instead: for small vocabularies.

    Returns:
        (N,) float32.
    """

    def one_chunk(h: Tensor, t: Tensor) -> Tensor:
        return _Logprob.apply(head(h), t, temperature, banned)  # pyright: ignore[reportReturnType]

    return _by_chunks(one_chunk, hidden, targets, chunk_tokens, keep_logits)


class _Logprob(torch.autograd.Function):
    """(N,) log-probs of targets (N,) from the head's raw (N, V) logits.

    What autograd would do in a dozen passes over (N, V), each with a tensor of its own, takes four
    in one tensor: the gradient is (1[target] - softmax) / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any, raw: Tensor, targets: Tensor, temperature: float, banned: Sequence[int]
    ) -> Tensor:
        logits = sampling_logits(raw, temperature, banned)
        total = logits.logsumexp(-1)
        ctx.save_for_backward(raw, targets, total)
        ctx.temperature, ctx.banned = temperature, banned
        return logits.gather(-1, targets[:, None]).squeeze(-1) - total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad = grads[0][:, None]
        raw, targets, total = ctx.saved_tensors
        logits = sampling_logits(raw, ctx.temperature, ctx.banned)
        # In place, unless what came back is what the head returned.
        out = None if logits is raw else logits
        slope = torch.sub(logits, total[:, None], out=out).exp_().mul_(-grad)
        slope.scatter_add_(-1, targets[:, None], grad)
        if ctx.temperature != 1.0:
            slope.div_(ctx.temperature)
        if ctx.banned:
            slope.index_fill_(-1, torch.tensor(ctx.banned, device=slope.device), 0.0)
        return slope.to(raw.dtype), None, None, None


def token_jsd(
    student_hidden: Tensor,
    student_head: Callable[[Tensor], Tensor],
    teacher_hidden: Tensor,
    teacher_head: Callable[[Tensor], Tensor],
    temperature: float = 1.0,
    banned: Sequence[int] = (),
    chunk_tokens: int = 1_024,
    beta: float = 0.5,
) -> Tensor:
    """Jensen-Shannon divergence of student and teacher at each token, in nats.

    With teacher P, student Q and the mixture M = beta P + (1 - beta) Q it is
    beta KL(P || M) + (1 - beta) KL(Q || M), GKD's generalised form; beta = 0.5 is the symmetric
    one, at most log 2. Only the student gets a gradient. No (N, V) tensor of either model ever
    exists for more than a chunk.

    Args:
        student_hidden, teacher_hidden: (N, H) and (N, H'), final hidden states at the same tokens.
        student_head, teacher_head: the LM heads. They may differ in their number of rows, which
            pads the one vocabulary: ids that not both have get probability zero.
        temperature, banned: as in `chunked_logprobs`, for both models.
        chunk_tokens: N is cut into chunks of this size; each is recomputed in the backward pass.
        beta: the teacher's weight, strictly between 0 and 1.

    Returns:
        (N,) float32.
    """

    def one_chunk(s: Tensor, t: Tensor) -> Tensor:
        ours = student_head(s)
        with torch.no_grad():
            theirs = teacher_head(t).to(ours.device)
        shared = min(ours.shape[-1], theirs.shape[-1])
        logits = (sampling_logits(x[..., :shared], temperature, banned) for x in (ours, theirs))
        return _JensenShannon.apply(*logits, beta)  # pyright: ignore[reportReturnType]

    return _by_chunks(one_chunk, student_hidden, teacher_hidden.detach(), chunk_tokens)


class _JensenShannon(torch.autograd.Function):
    """(N, V) logits of student and teacher to (N,) divergences.

    Its gradient in closed form, (1 - beta) Q (log(Q / M) - KL(Q || M)), keeps one tensor of the
    logits' size for the backward pass, where autograd would keep six.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, beta: float) -> Tensor:
        # In place where nobody looks again: each of these is as large as the logits. A banned id
        # is finite in log space: the difference of two infinities is no number.
        log_q = student.log_softmax(-1).clamp_(min=_LOWEST)
        log_p = teacher.log_softmax(-1).clamp_(min=_LOWEST)
        log_m = log_q + math.log1p(-beta)
        torch.logaddexp(log_m, log_p + math.log(beta), out=log_m)
        p = log_p.exp()
        kl_p = p.mul_(log_p.sub_(log_m)).sum(-1)
        excess = log_m.neg_().add_(log_q)
        q = log_q.exp_()
        kl_q = (q * excess).sum(-1)
        ctx.save_for_backward(excess.sub_(kl_q[:, None]).mul_(q).mul_(1.0 - beta))
        return beta * kl_p + (1.0 - beta) * kl_q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,) = ctx.saved_tensors
        return gradients[0][:, None] * slope, None, None


def _by_chunks(
    function: Callable[[Tensor, Tensor], Tensor],
    a: Tensor,
    b: Tensor,
    chunk_tokens: int,
    keep: bool = False,
) -> Tensor:
    """`function` of the rows of `a` and `b`, (N, ...) each, a chunk at a time. Unless `keep`, and
    where there is more than one, each is computed again in the backward pass."""
    chunks = list(zip(a.split(chunk_tokens), b.split(chunk_tokens), strict=True))
    if keep or len(chunks) == 1 or not torch.is_grad_enabled():
        return torch.cat([function(*chunk) for chunk in chunks])
    pieces = [checkpoint(function, *chunk, use_reentrant=False) for chunk in chunks]
    return torch.cat(pieces)  # pyright: ignore[reportArgumentType, reportCallIssue]


def sampling_logits(logits: Tensor, temperature: float, banned: Sequence[int]) -> Tensor:
    """(..., V) float32 logits of the distribution that is sampled from and trained on."""
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    if banned:
        index = torch.tensor(banned, device=logits.device)
        logits = logits.index_fill(-1, index, float("-inf"))
    return logits
