"""One chat request and its reply, as JSON. What a server sends is read with suspicion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from zppo.config import EndpointConfig, OpenAITeacherConfig
from zppo.teacher.retry import Unusable

#: A reply is cut at so many characters a token of its cap: text no tokenizer packs tighter for
#: long, so only a server that ignores the cap is cut.
CHARS_A_TOKEN = 10


@dataclass(frozen=True, slots=True)
class Ask:
    """What we want to know, whichever endpoint will say it."""

    question_id: str
    purpose: Literal["answer", "compress", "hint", "judge"]
    message: dict[str, Any]
    max_tokens: int
    seed: tuple[int, ...]
    temperature: float = 0.0
    schema: Mapping[str, Any] | None = None
    history: tuple[dict[str, Any], ...] = ()  # messages before this one


def request_fields(
    ask: Ask,
    options: OpenAITeacherConfig,
    endpoint: EndpointConfig,
    count: int,
    number: int,
) -> dict[str, Any]:
    """Arguments of `chat.completions.create` for samples `number`, ..., `number` + `count` - 1."""
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [*ask.history, ask.message],
        options.token_limit_field: ask.max_tokens,
        "extra_body": dict(options.extra_body),
    }
    if ask.purpose == "answer":
        fields |= {"top_p": options.top_p} if options.top_p is not None else {}
    else:
        fields["extra_body"] |= options.task_extra_body
    if options.temperature is not None:
        fields["temperature"] = ask.temperature
    if count > 1:
        fields["n"] = count
    if ask.schema is not None:
        shape = {"name": ask.purpose, "strict": True, "schema": dict(ask.schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": shape}
    if options.send_seed:
        fields["seed"] = derived_seed(ask, number)
    return fields


def derived_seed(ask: Ask, number: int) -> int:
    """31 bits that follow from the run's seed, the step, the task and the sample's number."""
    content = ask.message["content"]
    words = [*map(str, ask.seed), ask.question_id, ask.purpose, str(number)]
    if isinstance(content, str):  # a question has several traces to compress
        words.append(content)
    digest = hashlib.blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def read_reply(body: bytes, max_tokens: int, secret: str | None) -> tuple[list[str], int]:
    """The texts of a reply, and how many choices it had. A choice without text has no place.

    A cut text keeps its beginning. Whatever looks like `secret` is taken out. Raises `Unusable`:
    `malformed` when it is not the JSON of a completion, `empty` when no choice holds a text.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("malformed") from None
    choices = cast(dict[str, Any], reply).get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list):
        raise Unusable("malformed")
    texts = [_text(choice) for choice in cast(list[Any], choices)]
    limit = max_tokens * CHARS_A_TOKEN
    kept = [_clean(text, secret)[:limit] for text in texts if text and text.strip()]
    if not kept:
        raise Unusable("empty")
    return kept, len(texts)


def _text(choice: Any) -> str | None:
    """The text of a choice, with the reasoning that some servers keep apart put before it."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return None
    content = _plain(message.get("content"))
    thought = _plain(message.get("reasoning_content")) or _plain(message.get("reasoning"))
    if thought:
        return f"<think>{thought}</think>\n{content}" if content else f"<think>{thought}"
    return content


def _plain(content: Any) -> str | None:
    """Text, also where it comes as a list of parts."""
    if isinstance(content, list):
        parts = [p.get("text") for p in cast(list[Any], content) if isinstance(p, dict)]
        return "".join(p for p in parts if isinstance(p, str))
    return content if isinstance(content, str) else None


def _clean(text: str, secret: str | None) -> str:
    # Half a surrogate pair cannot be encoded, by a tokenizer or on disk.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace(secret, "***") if secret else text
