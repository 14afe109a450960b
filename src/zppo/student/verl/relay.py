"""Between the driver and the rollout servers: a process a machine that asks for the rollouts of
whole groups.

A server's reply is a list of Python numbers a token; to unpack, convert and decode it costs more
than all else that a driver does with a rollout, and at the paper's size there are 57 million tokens
a step. A relay does it beside the servers and hands the driver a group as arrays and text.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np

from zppo.errors import EngineError
from zppo.student.text import decode_text
from zppo.student.verl.cluster import VerlCluster, answered
from zppo.student.verl.media import AtReceiver
from zppo.student.verl.prompts import RequestedPrompt
from zppo.types import Response

log = logging.getLogger(__name__)


class Relay:
    """Asks for the rollouts of a group, no more than `in_flight` at a time over all groups.

    client      verl's, with `generate`
    stop_ids    tokens that end a response
    timeout     seconds that one rollout may take
    """

    def __init__(
        self,
        client: Any,
        tokenizer: Any,
        stop_ids: Sequence[int],
        timeout: float,
        in_flight: int,
        answer: Callable[[str, Awaitable[Any], float], Awaitable[Any]] = answered,
    ) -> None:
        self.client, self.tokenizer, self.timeout = client, tokenizer, timeout
        self.stop_ids, self.answer = frozenset(stop_ids), answer
        self.room = asyncio.Semaphore(in_flight)

    async def group(
        self, prompt: RequestedPrompt, params: Mapping[str, Any], seeds: Sequence[int | None]
    ) -> tuple[Response, ...]:
        """A response for each of `seeds`; `params` are a server's sampling parameters. Token ids
        are int32 on this way. A rollout that a server did not give is a response without tokens
        that names the reason. Raises `EngineError` when a server is gone."""
        tasks = [asyncio.create_task(self._one(prompt, params, seed)) for seed in seeds]
        try:
            return tuple([await task for task in tasks])
        finally:
            for task in tasks:
                task.cancel()
            # After a lost server all of them end in the same error: one is told.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(
        self, prompt: RequestedPrompt, params: Mapping[str, Any], seed: int | None
    ) -> Response:
        async with self.room:
            request = self.client.generate(
                request_id=uuid4().hex,
                prompt_ids=prompt.ids.tolist(),
                sampling_params=dict(params) if seed is None else {**params, "seed": seed},
                image_data=[AtReceiver(image) for image in prompt.images] or None,
                video_data=[AtReceiver(video) for video in prompt.videos] or None,
            )
            try:
                output = await self.answer("sample a rollout", request, self.timeout)
            except EngineError:
                raise
            except TimeoutError:
                return _failed(f"no answer within {self.timeout:g} seconds")
            except Exception as error:  # one request must not end a run; the status is counted
                log.warning("a rollout failed: %s", error)
                return _failed(_reason(error))
        if not output.token_ids:
            return _failed(f"no tokens ({output.stop_reason})")
        return self._response(prompt, output.token_ids, output.log_probs)

    def _response(
        self, prompt: RequestedPrompt, ids: list[int], logprobs: list[float] | None
    ) -> Response:
        return Response(
            np.asarray(ids, dtype=np.int32),
            None if logprobs is None else np.asarray(logprobs, dtype=np.float32),
            decode_text(self.tokenizer, [*prompt.prefix_ids, *ids]),
            ids[-1] in self.stop_ids,
        )


class RemoteRelay:
    """A `Relay` in a process of its own, `actor` (Ray's handle)."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def group(
        self, prompt: RequestedPrompt, params: Mapping[str, Any], seeds: Sequence[int | None]
    ) -> tuple[Response, ...]:
        """See `Relay.group`, with token ids in int64. Raises `EngineError` when the relay itself
        is gone, too."""
        import ray

        call = self.actor.group.remote(prompt, params, seeds)
        try:
            return tuple(map(_own, await answered("sample a rollout", call, None)))
        except asyncio.CancelledError:
            ray.cancel(call)
            raise

    def close(self) -> None:
        """End its process."""
        import ray

        ray.kill(self.actor)


def start_relays(
    cluster: VerlCluster, tokenizer: Any, stop_ids: Sequence[int]
) -> list[RemoteRelay]:
    """A relay for each machine of the student's, spread over Ray's machines. They share
    `verl.requests_in_flight`."""
    import ray

    options = cluster.options
    actor = ray.remote(Relay).options(
        num_cpus=0, scheduling_strategy="SPREAD", max_concurrency=_GROUPS
    )
    in_flight = max(1, options.requests_in_flight // options.nnodes)
    arguments = (cluster.client, tokenizer, tuple(stop_ids), options.request_timeout, in_flight)
    return [RemoteRelay(actor.remote(*arguments)) for _ in range(options.nnodes)]


#: Groups that a relay knows of at a time; how many rollouts are asked for is its own affair.
_GROUPS = 100_000


def _own(response: Response) -> Response:
    """In memory of its own: Ray keeps what it sent for as long as somebody looks at it."""
    logprobs = None if response.logprobs is None else response.logprobs.copy()
    return replace(response, token_ids=response.token_ids.astype(np.int64), logprobs=logprobs)


def _failed(reason: str) -> Response:
    return Response(np.empty(0, dtype=np.int32), None, "", False, reason)


def _reason(error: Exception) -> str:
    """The last line of what happened on the server."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]
