"""A server that speaks /v1/chat/completions in this process, and misbehaves on order.

    with Server() as server:
        server.orders = ["500", "ok"]       # one a request; afterwards `default`
        ... server.url ...

It runs in a thread with an event loop of its own, so that it serves code that calls
`asyncio.run` itself.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

Answer = Callable[[dict[str, Any], int], str]


@dataclass
class Seen:
    """One request as it came."""

    body: dict[str, Any]
    headers: dict[str, str]
    behaviour: str
    at: float = field(default_factory=time.monotonic)

    @property
    def text(self) -> str:
        """The user's text, without media."""
        content = self.body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return "".join(part.get("text", "") for part in content)


class Server:
    """`answer(body, k)` gives the k-th choice. Behaviours: ok, one (ignores `n`), 400-n (refuses
    `n`), 400-schema (a schema), empty, blank, 429, 429-after, 500 and other numbers, hang, half,
    junk, list, null, huge, endless (and endless-500), reset, echo (the headers as an error)."""

    def __init__(
        self,
        answer: Answer = lambda body, k: f"answer {k} \\boxed{{1}}",
        default: str | Callable[[int], str] = "ok",
        latency: float = 0.0,
    ) -> None:
        self.answer, self.default, self.latency = answer, default, latency
        self.orders: list[str] = []
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self.sent = 0  # bytes of endless replies
        self._now = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def behaviours(self) -> Counter[str]:
        return Counter(s.behaviour for s in self.seen)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def die(self, seconds: float) -> None:
        """Break all connections, refuse new ones, come back on the same port."""

        async def death() -> None:
            await self._stop()
            await asyncio.sleep(seconds)
            await self._listen()

        asyncio.run_coroutine_threadsafe(death(), self._loop)

    # -- inside ------------------------------------------------------------------------------------

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            self._handlers.discard(task)
            with suppress(Exception):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        chosen = self.default(len(self.seen)) if callable(self.default) else self.default
        behaviour = self.orders.pop(0) if self.orders else chosen
        self.seen.append(Seen(body, headers, behaviour))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(self.latency)
            return await self._behave(behaviour, body, headers, writer)
        finally:
            self._now -= 1

    async def _behave(
        self, name: str, body: dict[str, Any], headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        n = body.get("n") or 1
        if name == "400-n":
            name = "400" if n > 1 else "ok"
        if name == "400-schema":
            name = "400" if "response_format" in body else "ok"
        match name:
            case "ok":
                _send(writer, 200, self._reply(body, n))
            case "one":
                _send(writer, 200, self._reply(body, 1))
            case "empty":
                _send(writer, 200, {"choices": []})
            case "blank":
                _send(writer, 200, {"choices": [{"message": {"content": " "}}]})
            case "junk":
                _send(writer, 200, b'{"choices": [{"message": ')
            case "list":
                _send(writer, 200, ["not", "a", "completion"])
            case "null":
                _send(writer, 200, {"choices": [None, {"message": None}, {"message": {}}, 7]})
            case "huge":
                _send(writer, 200, {"choices": [{"message": {"content": "x" * 100_000}}]})
            case "endless" | "endless-500":
                status = 500 if name.endswith("500") else 200
                writer.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
                while True:  # until the client hangs up
                    writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                    self.sent += 65_536
                    await writer.drain()
            case "429-after":
                _send(writer, 429, {"error": {"message": "slow down"}}, "Retry-After: 0.2\r\n")
            case "echo":
                _send(writer, 401, {"error": {"message": f"bad key {headers['authorization']}"}})
            case "hang":
                await asyncio.sleep(3600)
            case "half":
                whole = json.dumps(self._reply(body, n)).encode()
                writer.write(_head(200, len(whole)) + whole[: len(whole) // 2])
                await writer.drain()
                return False
            case "reset":
                writer.transport.abort()
                return False
            case _:
                _send(writer, int(name), {"error": {"message": f"status {name}"}})
        await writer.drain()
        return True

    def _reply(self, body: dict[str, Any], n: int) -> dict[str, Any]:
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body.get("model"),
            "choices": [
                {
                    "index": k,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": self.answer(body, k)},
                }
                for k in range(n)
            ],
        }


def _send(writer: asyncio.StreamWriter, status: int, body: Any, more: str = "") -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    writer.write(_head(status, len(content), more) + content)


def _head(status: int, length: int, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()
