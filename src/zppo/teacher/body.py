"""How much of a server's reply is read: one that never stops talking must not fill the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from zppo.teacher.chat import CHARS_A_TOKEN
from zppo.teacher.retry import Unusable

#: What a reply may hold beside its texts, in bytes; and all that is read of an error.
BESIDES = 2**20
#: The most that JSON makes of a character: \uXXXX.
_BYTES_A_CHAR = 6


def reply_limit(max_tokens: int, count: int) -> int:
    """Bytes of a reply with `count` texts of at most `max_tokens` tokens, generously."""
    return BESIDES + count * max_tokens * CHARS_A_TOKEN * _BYTES_A_CHAR


async def read_body(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """The whole body. Raises `Unusable` (`too_large`) as soon as it has more than `limit` bytes."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise Unusable("too_large")
    return bytes(body)


async def cut_errors(response: Any) -> None:
    """A response hook of the HTTP client: the body of an error ends after `BESIDES` bytes.

    The client itself reads it, so it is cut where the client reads: the status is what counts.
    """
    if response.status_code >= 400:
        whole = response.aiter_bytes
        response.aiter_bytes = lambda *args, **named: _beginning(whole(*args, **named), response)


async def _beginning(chunks: AsyncIterator[bytes], response: Any) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in chunks:
        yield chunk
        seen += len(chunk)
        if seen >= BESIDES:
            await response.aclose()
            return
