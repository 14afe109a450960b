"""A teacher behind OpenAI-compatible servers: vLLM, SGLang, transformers serve, any vendor.

A call is retried, elsewhere if there is another server, until it has an answer or a reason why not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import openai

from zppo.config import Config, DataConfig, OpenAITeacherConfig
from zppo.errors import DataError, TeacherError
from zppo.teacher.base import TeacherRequest
from zppo.teacher.body import cut_errors, read_body, reply_limit
from zppo.teacher.chat import Ask, read_reply, request_fields
from zppo.teacher.keys import advice, read_key, short
from zppo.teacher.message import user_message
from zppo.teacher.pool import RULES, BreakerRules, Endpoint, Lease, Pool
from zppo.teacher.retry import PATIENCE, Patience, Trouble, diagnose
from zppo.types import Question, TeacherFailure

#: Seconds until a connection must stand; a request itself may take `timeout_s`.
_CONNECT = 15.0
#: Seconds for the first request to a server, which may have to load its model.
_CHECK = 180.0


@dataclass(eq=False, slots=True)
class _Link:
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    pool: Pool
    clients: dict[Endpoint, openai.AsyncOpenAI]
    gate: asyncio.Semaphore  # questions in work, so that not all images are in memory at once


class OpenAITeacher:
    """Implements `zppo.teacher.base.Teacher`, `ReportsFailures` and `Closes`.

    What it learns about a server (whether it gives several samples a request, whether it fails)
    it keeps for the whole run; connections live as long as the event loop or until `aclose`.
    Raises `TeacherError` when the environment lacks a key.
    """

    def __init__(
        self,
        options: OpenAITeacherConfig,
        data: DataConfig,
        patience: Patience = PATIENCE,
        rules: BreakerRules = RULES,
    ) -> None:
        self.options, self.data, self.patience, self.rules = options, data, patience, rules
        self.endpoints = [Endpoint(config) for config in options.endpoints]
        self._keys = {e: read_key(e.config) for e in self.endpoints}
        self._failures: list[TeacherFailure] = []
        self._link: _Link | None = None

    @classmethod
    def from_config(cls, config: Config) -> OpenAITeacher:
        """The teacher that `config.teacher` names. Raises `TeacherError`."""
        assert isinstance(config.teacher, OpenAITeacherConfig)
        return cls(config.teacher, config.data)

    # -- the protocol ----------------------------------------------------------------------------

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """See `Teacher.sample`."""
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(self._answers(question, text, n, tuple(seed)))
                for question, text in prompts
            ]
        return [task.result() for task in asked]

    async def converse(
        self,
        question: Question,
        text: str,
        n: int,
        seed: Sequence[int],
        turns: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """`n` responses to one question that ends a conversation of (role, content) `turns`."""
        history = tuple({"role": role, "content": content} for role, content in turns)
        return await self._answers(question, text, n, tuple(seed), history)

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """See `Teacher.complete`."""
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._complete(r, tuple(seed))) for r in requests]
        return [task.result() for task in asked]

    def drain_failures(self) -> list[TeacherFailure]:
        """See `ReportsFailures`."""
        failures, self._failures = self._failures, []
        return failures

    async def aclose(self) -> None:
        """See `Closes`."""
        link, self._link = self._link, None
        if link is not None and link.loop is asyncio.get_running_loop():
            link.pool.close()
            for client in link.clients.values():
                await client.close()

    async def check(self) -> None:
        """Ask every server for a few tokens.

        Raises `TeacherError` when one refuses (a wrong key, model or field), or none answers.
        """
        link = self._linked()
        results = await asyncio.gather(*(self._try(link, e) for e in self.endpoints))
        await self.aclose()
        found = [(e, *r) for e, r in zip(self.endpoints, results, strict=True) if r]
        wrong = [line for _, line, refused in found if refused]
        if wrong or len(found) == len(self.endpoints):
            lines = wrong or [line for _, line, _ in found]
            raise TeacherError("The teacher cannot be asked:\n  " + "\n  ".join(lines))

    # -- questions and tasks ---------------------------------------------------------------------

    async def _answers(
        self,
        question: Question,
        text: str,
        n: int,
        seed: tuple[int, ...],
        history: tuple[dict[str, Any], ...] = (),
    ) -> list[str]:
        link = self._linked()
        async with link.gate:
            try:
                message = await asyncio.to_thread(
                    user_message,
                    question,
                    text,
                    max_pixels=self.options.max_pixels or self.data.max_pixels,
                    max_frames=self.options.max_frames,
                    fps=self.data.video_fps,
                )
            except DataError:
                self._failures.append(TeacherFailure(question.id, "answer", "bad_media", n))
                return []
            ask = Ask(
                question.id,
                "answer",
                message,
                self.options.max_response_tokens,
                seed,
                self.options.temperature or 0.0,
                history=history,
            )
            return await self._samples(link, ask, n)

    async def _complete(self, request: TeacherRequest, seed: tuple[int, ...]) -> str | None:
        link = self._linked()
        message = {"role": "user", "content": request.prompt}
        ask = Ask(
            request.question.id,
            request.purpose,
            message,
            request.max_tokens,
            seed,
            request.temperature,
            request.schema,
        )
        async with link.gate:
            return next(iter(await self._call(link, ask, 1, 0)), None)

    async def _samples(self, link: _Link, ask: Ask, n: int) -> list[str]:
        """All at once where that works, the missing ones by single requests."""
        single = self.options.samples == "single" or all(
            e.multiple is False for e in self.endpoints
        )
        texts: list[str] = []
        if not single and n > 1:
            texts = await self._call(link, ask, n, 0)
            if not texts:
                return []
        rest = [self._call(link, ask, 1, number) for number in range(len(texts), n)]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(call) for call in rest]
        return [*texts, *(text for task in asked for text in task.result())]

    async def _call(self, link: _Link, ask: Ask, n: int, number: int) -> list[str]:
        """Up to `n` texts, at least one; none when it failed, and then the reason is recorded."""
        outcome = await self._attempts(link, ask, n, number)
        if isinstance(outcome, str):
            self._failures.append(TeacherFailure(ask.question_id, ask.purpose, outcome, n))
            return []
        return outcome[:n]

    # -- requests --------------------------------------------------------------------------------

    async def _attempts(self, link: _Link, ask: Ask, n: int, number: int) -> list[str] | str:
        """Texts, or the reason of the last failure."""
        rng = random.Random(f"{ask.seed}/{ask.question_id}/{ask.purpose}/{number}")
        tried: set[Endpoint] = set()
        bare: set[Endpoint] = set()  # asked for neither several samples nor a schema
        attempt = 0
        while True:
            lease = await link.pool.acquire(avoid=tried)
            if lease is None:
                return "no_endpoint"
            endpoint = lease.endpoint
            count = 1 if endpoint.multiple is False or endpoint in bare else n
            whole = endpoint.takes_schema and endpoint not in bare
            sent = ask if whole else replace(ask, schema=None)
            result = await self._request(link, lease, sent, count, number, attempt + 1, rng)
            if not isinstance(result, Trouble):
                texts, choices = result
                if endpoint in bare:
                    endpoint.multiple = False if n > 1 else endpoint.multiple
                    endpoint.takes_schema &= ask.schema is None
                elif count > 1:
                    endpoint.multiple = choices > 1
                return texts
            if (count > 1 or sent.schema) and result.reason in ("http_400", "http_422"):
                bare.add(endpoint)  # perhaps it was one of these that it did not like
                continue
            attempt += 1
            if not result.again or attempt >= self.options.max_attempts:
                return result.reason
            tried.add(endpoint)
            if not result.too_many:  # then the endpoint pauses, not this call
                await asyncio.sleep(self.patience.backoff(attempt, rng))

    async def _request(
        self,
        link: _Link,
        lease: Lease,
        ask: Ask,
        count: int,
        number: int,
        attempt: int,
        rng: random.Random,
    ) -> tuple[list[str], int] | Trouble:
        """Send once; the pool learns what came of it."""
        try:
            async with asyncio.timeout(self.options.timeout_s):
                result = await self._send(link, lease.endpoint, ask, count, number)
        except Exception as error:
            try:
                trouble = diagnose(error)
            except BaseException:
                link.pool.give_back(lease)
                raise
            asked = trouble.too_many or trouble.wait is not None
            pause = self.patience.asked(trouble, attempt, rng) if asked else 0.0
            (link.pool.failed if trouble.blame else link.pool.alive)(lease, pause)
            return trouble
        except BaseException:  # cancelled
            link.pool.give_back(lease)
            raise
        link.pool.succeeded(lease)
        return result

    async def _send(
        self, link: _Link, endpoint: Endpoint, ask: Ask, count: int, number: int
    ) -> tuple[list[str], int]:
        fields: dict[str, Any] = request_fields(ask, self.options, endpoint.config, count, number)
        completions = link.clients[endpoint].chat.completions.with_streaming_response
        async with completions.create(**fields) as reply:
            body = await read_body(reply.iter_bytes(), reply_limit(ask.max_tokens, count))
        return read_reply(body, ask.max_tokens, self._keys[endpoint])

    async def _try(self, link: _Link, endpoint: Endpoint) -> tuple[str, bool] | None:
        """What is wrong with an endpoint, and whether it is the endpoint that says so."""
        message = {"role": "user", "content": "Reply with the word ready."}
        ask = Ask("", "answer", message, 16, (0,), self.options.temperature or 0.0)
        secrets = [key for key in self._keys.values() if key]
        try:
            async with asyncio.timeout(min(_CHECK, self.options.timeout_s)):
                await self._send(link, endpoint, ask, 1, 0)
        except Exception as error:
            trouble = diagnose(error)
            if trouble.reason == "empty":  # it answered
                return None
            where = f"{endpoint.config.url} (model `{endpoint.config.model}`)"
            if isinstance(error, openai.APIStatusError) and error.status_code < 500:
                said = short(error.message, secrets)
                refused = not trouble.too_many
                return f"{where}: {said}{advice(error.status_code, endpoint.config)}", refused
            return f"{where}: {trouble.reason}", False
        return None

    def _linked(self) -> _Link:
        """Clients and pool of the running loop, made at its first call."""
        loop = asyncio.get_running_loop()
        if self._link is None or self._link.loop is not loop:
            self._link = _Link(
                loop,
                Pool(self.endpoints, self.options.max_outage_s, self.rules),
                {e: self._client(e) for e in self.endpoints},
                asyncio.Semaphore(sum(e.config.concurrency for e in self.endpoints)),
            )
        return self._link

    def _client(self, endpoint: Endpoint) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=endpoint.config.url,
            # A key is always given: without one the client would look for a vendor's in the
            # environment and send it to whatever server this is.
            api_key=self._keys[endpoint] or "none",
            timeout=openai.Timeout(self.options.timeout_s, connect=_CONNECT),
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [cut_errors]}),
        )
