"""What the student samples, asked of verl's rollout servers: tokens in, tokens out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zppo.errors import EngineError
from zppo.student.sampler import Sampling
from zppo.student.verl.cluster import VerlCluster

log = logging.getLogger(__name__)

#: A server adds this to the logits of tokens that must not be sampled: vLLM's largest.
_NEVER = -100.0
#: Servers that do not take a seed with a request.
_WITHOUT_SEED = ("sglang", "trtllm")


@dataclass(frozen=True, slots=True)
class RequestedPrompt:
    """What a server is shown: token ids, placeholders of pictures included, and the pictures."""

    ids: list[int]
    images: list[Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Sampled tokens (R,) and their log-probs, None where the server gave none; or why there are
    none."""

    token_ids: np.ndarray
    logprobs: np.ndarray | None
    failure: str | None = None


def sampling_params(
    rule: Sampling, stop_ids: Sequence[int], banned: Sequence[int], seed: int | None
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
    if seed is not None:
        params["seed"] = seed
    return params


class Requests:
    """Asks for `n` responses to each prompt, at most `verl.requests_in_flight` at a time."""

    def __init__(
        self, cluster: VerlCluster, stop_ids: Sequence[int], banned: Sequence[int]
    ) -> None:
        self.cluster, self.options = cluster, cluster.options
        self.stop_ids, self.banned = stop_ids, banned

    async def answers(
        self, prompts: Sequence[RequestedPrompt], n: int, rule: Sampling, seed: Sequence[int]
    ) -> AsyncIterator[dict[int, list[Answer]]]:
        """The answers in chunks, by the prompt's position. What is in a chunk, and their order,
        depend on the number of prompts alone, not on who is ready first.

        Raises `EngineError` when a server is gone, or too large a share of the answers failed.
        """
        room = asyncio.Semaphore(self.options.requests_in_flight)
        a_chunk = max(1, self.options.requests_in_flight // (4 * n))

        async def ask(i: int, k: int) -> Answer:
            async with room:
                return await self._ask(prompts[i], rule, _request_seed(seed, i, k))

        tasks = [[asyncio.create_task(ask(i, k)) for k in range(n)] for i in range(len(prompts))]
        failures: list[str] = []
        try:
            for start in range(0, len(prompts), a_chunk):
                chunk = range(start, min(start + a_chunk, len(prompts)))
                found = {i: [await task for task in tasks[i]] for i in chunk}
                failures += [a.failure for some in found.values() for a in some if a.failure]
                self._require(failures, len(prompts) * n)
                yield found
        finally:
            rest = [task for group in tasks for task in group]
            for task in rest:
                task.cancel()
            # After a lost server every request ends in the same error: one of them is told.
            await asyncio.gather(*rest, return_exceptions=True)

    async def _ask(self, prompt: RequestedPrompt, rule: Sampling, seed: int) -> Answer:
        takes_seed = self.options.rollout not in _WITHOUT_SEED
        params = sampling_params(rule, self.stop_ids, self.banned, seed if takes_seed else None)
        request = self.cluster.client.generate(
            request_id=f"{seed:016x}",
            prompt_ids=prompt.ids,
            sampling_params=params,
            image_data=prompt.images,
        )
        try:
            output = await self.cluster.answer("sample a rollout", request)
        except EngineError:
            raise
        except TimeoutError:
            return _failed(f"no answer within {self.options.request_timeout:g} seconds")
        except Exception as error:  # one request must not end a run; the status is counted
            log.warning("a rollout failed: %s", error)
            return _failed(_reason(error))
        if not output.token_ids:
            return _failed(f"no tokens ({output.stop_reason})")
        logprobs = None if output.log_probs is None else np.asarray(output.log_probs, np.float32)
        return Answer(np.asarray(output.token_ids, dtype=np.int64), logprobs)

    def _require(self, failures: Sequence[str], asked: int) -> None:
        if len(failures) > self.options.max_failed_rollout_share * asked:
            raise EngineError(
                f"{len(failures)} of {asked} rollouts failed (verl.max_failed_rollout_share="
                f"{self.options.max_failed_rollout_share:g}), the last one: {failures[-1]}"
            )


def _failed(reason: str) -> Answer:
    return Answer(np.empty(0, dtype=np.int64), None, reason)


def _reason(error: Exception) -> str:
    """The last line of what happened on the server."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]


def _request_seed(seed: Sequence[int], prompt: int, sample: int) -> int:
    """63 bits that no other request of the run has, the same in every process."""
    text = json.dumps([*map(int, seed), prompt, sample])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
