"""The policy loss of method section 3 and chunked log-probabilities.

Shapes: B rows, T response tokens, N flattened tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOG_RATIO = 20.0


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
) -> Tensor:
    """Log-probabilities of `targets` without ever holding an (N, V) tensor for more than a chunk.

    Args:
        hidden: (N, H) final hidden states, each the one that predicts its target.
        targets: (N,) token ids.
        head: the LM head.
        temperature, banned: the sampling distribution: logits are divided by the temperature and
            banned ids have probability zero, exactly as the sampler does it.
        chunk_tokens: N is cut into chunks of this size; each is recomputed in the backward pass.

    Returns:
        (N,) float32.
    """

    def one_chunk(h: Tensor, t: Tensor) -> Tensor:
        logits = sampling_logits(head(h), temperature, banned)
        return logits.gather(-1, t[:, None]).squeeze(-1) - logits.logsumexp(-1)

    if hidden.shape[0] <= chunk_tokens or not torch.is_grad_enabled():
        pieces = [
            one_chunk(h, t)
            for h, t in zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
        ]
    else:
        pieces = [
            checkpoint(one_chunk, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
        ]
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
