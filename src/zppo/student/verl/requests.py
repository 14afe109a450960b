"""What the student samples, asked of verl's rollout servers: tokens in, tokens out."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from zppo.config_verl import VerlConfig
from zppo.errors import EngineError
from zppo.student.base import RolloutChunk
from zppo.student.sampler import Sampling
from zppo.student.verl.prompts import RequestedPrompt
from zppo.types import Response

#: A server adds this to the logits of tokens that must not be sampled: vLLM's largest.
_NEVER = -100.0
#: Servers that do not take a seed with a request.
_WITHOUT_SEED = ("sglang", "trtllm")


def sampling_params(
    rule: Sampling, stop_ids: Sequence[int], banned: Sequence[int]
) -> dict[str, Any]:
    """`rule` in vLLM's words, which verl's servers take."""
    params: dict[str, Any] = {
        "temperature": rule.temperature,
        "top_p": rule.top_p,
        "top_k": rule.top_k or -1,
        "min_p": rule.min_p,
        "presence_penalty": rule.presence_penalty,
        "repetition_penalty": rule.repetition_penalty,
        "max_tokens": rule.max_tokens,
        "stop_token_ids": list(stop_ids),
        "logprobs": True,
    }
    if banned:
        params["logit_bias"] = dict.fromkeys(banned, _NEVER)
    return params


class AsksForGroups(Protocol):
    """A `Relay`, here or in another process."""

    async def group(
        self, prompt: RequestedPrompt, params: Mapping[str, Any], seeds: Sequence[int | None]
    ) -> tuple[Response, ...]: ...


class Requests:
    """Asks `relays`, in turn, for `n` responses to each prompt."""

    def __init__(
        self,
        relays: Sequence[AsksForGroups],
        options: VerlConfig,
        stop_ids: Sequence[int],
        banned: Sequence[int],
    ) -> None:
        self.relays, self.options = relays, options
        self.stop_ids, self.banned = stop_ids, banned

    async def answers(
        self, prompts: Sequence[RequestedPrompt], n: int, rule: Sampling, seed: Sequence[int]
    ) -> AsyncIterator[RolloutChunk]:
        """The responses in chunks, by the prompt's position. What is in a chunk, and their order,
        depend on the number of prompts alone, not on who is ready first.

        Raises `EngineError` when a server is gone, or too large a share of the rollouts failed.
        """
        params = sampling_params(rule, self.stop_ids, self.banned)
        a_chunk = max(1, self.options.requests_in_flight // (4 * n))
        groups = [
            asyncio.create_task(
                self.relays[i % len(self.relays)].group(prompt, params, self._seeds(seed, i, n))
            )
            for i, prompt in enumerate(prompts)
        ]
        failures: list[str] = []
        try:
            for start in range(0, len(prompts), a_chunk):
                chunk = range(start, min(start + a_chunk, len(prompts)))
                found = {i: await groups[i] for i in chunk}
                failures += [r.failure for group in found.values() for r in group if r.failure]
                self._require(failures, len(prompts) * n)
                yield found
        finally:
            for group in groups:
                group.cancel()
            # After a lost server every group ends in the same error: one of them is told.
            await asyncio.gather(*groups, return_exceptions=True)

    def _seeds(self, seed: Sequence[int], prompt: int, n: int) -> list[int | None]:
        if self.options.rollout in _WITHOUT_SEED:
            return [None] * n
        return [_request_seed(seed, prompt, k) for k in range(n)]

    def _require(self, failures: Sequence[str], asked: int) -> None:
        if len(failures) > self.options.max_failed_rollout_share * asked:
            raise EngineError(
                f"{len(failures)} of {asked} rollouts failed (verl.max_failed_rollout_share="
                f"{self.options.max_failed_rollout_share:g}), the last one: {failures[-1]}"
            )


def _request_seed(seed: Sequence[int], prompt: int, sample: int) -> int:
    """63 bits that no other request of the run has, the same in every process."""
    text = json.dumps([*map(int, seed), prompt, sample])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
