"""Reading the replies of judges. Only a reply that is wholly what was asked for counts.

A response may talk to the judge, and a judge may ramble: text around the verdict, a second
verdict, a key twice, a score out of range all make a reply malformed, and a malformed reply is
never a correct answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from zppo.evaluation.scorers.base import JudgeReply

_FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL)


def json_object(reply: str) -> dict[str, Any] | None:
    """The reply as one JSON object, also in one code fence. None for anything else, a repeated
    key included."""
    text = reply.strip()
    fenced = _FENCE.match(text)
    try:
        pairs: Any = json.loads(fenced[1] if fenced else text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return pairs if isinstance(pairs, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def verdict_word(words: Mapping[str, float], key: str, more: frozenset[str]) -> Any:
    """A reader of `{key: word}` whose word is one of `words`, with no other field than `more`."""

    def read(reply: str) -> JudgeReply | None:
        found = json_object(reply)
        if found is None or not {key} <= set(found) <= {key} | more:
            return None
        word = found[key]
        score = words.get(word.strip().lower()) if isinstance(word, str) else None
        if score is None:
            return None
        return JudgeReply(score, _as_text(found.get("extracted_answer")))

    return read


def score_01(reply: str) -> JudgeReply | None:
    """`{"extracted_answer": ..., "score": 0 or 1}`, the form of CharXiv's graders."""
    found = json_object(reply)
    if found is None or not {"score"} <= set(found) <= {
        "score",
        "extracted_answer",
        "extract_answer",
    }:
        return None
    score = found["score"]
    if isinstance(score, bool) or score not in (0, 1):
        return None
    return JudgeReply(
        float(score), _as_text(found.get("extracted_answer", found.get("extract_answer")))
    )


_DECIMAL = re.compile(r"(?:0(?:\.\d{1,2})?|1(?:\.0{1,2})?)")


def decimal(reply: str) -> JudgeReply | None:
    """A number from 0.0 to 1.0 and nothing else, the form of MM-Vet's grader."""
    text = reply.strip()
    return JudgeReply(float(text)) if _DECIMAL.fullmatch(text) else None


_HLE = re.compile(
    r"^\s*\**(extracted_final_answer|reasoning|correct|confidence)\**\s*:", re.MULTILINE
)


_HLE_FIELDS = ("extracted_final_answer", "reasoning", "correct", "confidence")


def hle(reply: str) -> JudgeReply | None:
    """HLE's reply: the JSON object of its schema (which may also have `strict`), or its four fields
    as `name: value` lines."""
    found = json_object(reply)
    if found is None:
        found = _fields(reply)
    if found is None or not set(_HLE_FIELDS) <= set(found) <= {*_HLE_FIELDS, "strict"}:
        return None
    word = found["correct"]
    score = {"yes": 1.0, "no": 0.0}.get(word.strip().lower()) if isinstance(word, str) else None
    if score is None:
        return None
    return JudgeReply(score, _as_text(found.get("extracted_final_answer")))


def _fields(reply: str) -> dict[str, Any] | None:
    marks = list(_HLE.finditer(reply))
    names = [mark[1] for mark in marks]
    if names != list(_HLE_FIELDS):
        return None  # a field missing, twice or out of order
    ends = [mark.start() for mark in marks[1:]] + [len(reply)]
    return {
        name: reply[mark.end() : end].strip(" *\n")
        for name, mark, end in zip(names, marks, ends, strict=True)
    }


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value)[:500]
