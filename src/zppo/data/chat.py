"""Rows that are conversations: what was asked, and the answer where an assistant gave it.

Reads OpenAI messages (`role`, `content` as text or as parts) and ShareGPT turns (`from`, `value`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zppo.data.fields import is_list, show
from zppo.data.skips import RowProblem
from zppo.rewards import extract_boxed

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model"), "assistant"),
    "system": "system",
}
_MEDIA = {"image": "images", "image_url": "images", "video": "videos", "video_url": "videos"}


@dataclass(frozen=True, slots=True)
class Conversation:
    """One exchange. `media` holds images and videos that stand in the message itself, by role of
    column (`images`, `videos`), as the row gave them."""

    question: str
    answer: str | None
    media: Mapping[str, list[Any]]


def read_conversation(value: Any, column: str) -> Conversation:
    """The only user turn and the assistant's reply, if any. A system turn is left out: the closer
    of our own prompts takes its place.

    Raises `RowProblem`, also for more than one user turn: a question is a single prompt.
    """
    if isinstance(value, str):
        return Conversation(value, None, {})
    if not is_list(value):
        raise RowProblem(column, "wrong type", f"expected a list of turns, got {show(value)}")
    turns = [_turn(turn, column) for turn in value]
    asked = [content for role, content in turns if role == "user"]
    if len(asked) != 1:
        reason = "no question" if not asked else "several turns"
        raise RowProblem(column, reason, f"{len(asked)} user turns; a question has one")
    replies = [content for role, content in turns if role == "assistant"]
    question, media = _content(asked[0], column)
    answer = _content(replies[-1], column)[0] if replies else None
    return Conversation(question, None if answer is None else final_answer(answer), media)


def final_answer(response: str) -> str:
    """What a written response ends in: its last `\\boxed{}`, else what stands in `<answer>` tags,
    else all of it."""
    boxed = extract_boxed(response)
    if boxed is not None:
        return boxed
    _, tag, rest = response.rpartition("<answer>")
    return rest.partition("</answer>")[0].strip() if tag else response


def _turn(turn: Any, column: str) -> tuple[str, Any]:
    if isinstance(turn, Mapping):
        role = turn.get("role", turn.get("from"))
        known = _ROLES.get(role) if isinstance(role, str) else None
        if known:
            return known, turn.get("content", turn.get("value"))
    raise RowProblem(column, "wrong type", f"{show(turn)} is not a turn with a known role")


def _content(content: Any, column: str) -> tuple[str, dict[str, list[Any]]]:
    """Text and media of a turn."""
    if isinstance(content, str):
        return content, {}
    if not is_list(content):
        raise RowProblem(column, "wrong type", f"a turn holds {show(content)}, not text or parts")
    texts: list[str] = []
    media: dict[str, list[Any]] = {}
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(kind, str) and kind in _MEDIA:
            media.setdefault(_MEDIA[kind], []).extend(_item(part, kind))
        else:
            raise RowProblem(column, "wrong type", f"a turn holds a part of type {show(kind)}")
    return "\n".join(texts), media


def _item(part: Mapping[str, Any], kind: str) -> Sequence[Any]:
    """The image or video of a part; none where the part only marks its place."""
    value = part.get(kind)
    if isinstance(value, Mapping) and "url" in value:
        value = value["url"]
    return [] if value is None else [value]
