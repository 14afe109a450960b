"""Questions as JSON, exactly: for the buffer's state and the run directory."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping
from typing import Any, cast, get_args

from zppo.errors import DataError
from zppo.types import Media, Question, QuestionKind

_FIELDS = {field.name for field in dataclasses.fields(Question)}


def question_to_dict(question: Question) -> dict[str, Any]:
    """A question as JSON values. Media given as bytes become base64 text, paths stay paths."""
    return {
        "id": question.id,
        "text": question.text,
        "answer": question.answer,
        "kind": question.kind,
        "options": None if question.options is None else list(question.options),
        "media": [_media_to_dict(media) for media in question.media],
        "reference": question.reference,
        "source": question.source,
    }


def question_from_dict(data: Mapping[str, Any]) -> Question:
    """The question that `question_to_dict` wrote, equal in every field.

    Fields with a default may be missing. Raises `DataError` naming the field at fault.
    """
    if unknown := sorted(set(data) - _FIELDS):
        raise DataError(f"A saved question has unknown fields: {', '.join(unknown)}.")
    kind = data.get("kind", "short")
    if kind not in get_args(QuestionKind):
        raise DataError(f"A saved question has kind {kind!r}, not short or free.")
    reference = data.get("reference")
    options = data.get("options")
    return Question(
        id=_text(data, "id"),
        text=_text(data, "text"),
        answer=_text(data, "answer"),
        kind=kind,
        options=None if options is None else tuple(_texts(options)),
        media=tuple(_media_from_dict(media) for media in _items(data.get("media", []), "media")),
        reference=None if reference is None else _text(data, "reference"),
        source=_text(data, "source") if "source" in data else "",
    )


def _media_to_dict(media: Media) -> dict[str, Any]:
    parts = [
        {"path": part} if isinstance(part, str) else {"base64": base64.b64encode(part).decode()}
        for part in media.parts
    ]
    return {"kind": media.kind, "parts": parts, "fps": media.fps}


def _media_from_dict(data: Any) -> Media:
    try:
        if data["kind"] not in ("image", "video"):
            raise ValueError(f"kind {data['kind']!r}")
        return Media(data["kind"], tuple(_part(part) for part in data["parts"]), data.get("fps"))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"A saved question has media that cannot be read: {error!r}") from None


def _part(part: Mapping[str, str]) -> str | bytes:
    if "path" in part:
        return _text(part, "path")
    try:
        return base64.b64decode(part["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from None


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise DataError(f"A saved question needs text as `{key}`, not {value!r}.")
    return value


def _items(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise DataError(f"A saved question needs a list as `{key}`, not {value!r}.")
    return list(cast(list[Any], value))


def _texts(value: Any) -> list[str]:
    items = _items(value, "options")
    if not all(isinstance(item, str) for item in items):
        raise DataError("A saved question needs a list of texts as `options`.")
    return cast(list[str], items)
