"""Text that models wrote: made safe before it goes into a prompt block, read when it comes back."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

_BLOCKS = "candidate|response|summary|hint|think|question|truth"
_CONTROL = "s|bos|eos|pad|unk|image|video|start_of_turn|end_of_turn|start_of_image|end_of_image"
# White space counts only before and after a slash: `x < hint` is a comparison, `< /hint` a tag.
_BLOCK_TAG = re.compile(rf"<((?:\s*/\s*)?(?:{_BLOCKS})\b[^<>]*)(>?)", re.IGNORECASE)
_CONTROL_TAG = re.compile(rf"<(/?(?:{_CONTROL})/?)>", re.IGNORECASE)
_BAR = "[|\uff5c]"  # some vocabularies write their special tokens with the full-width bar
_OPEN_BAR = re.compile(rf"<(?={_BAR})")
_BAR_CLOSE = re.compile(rf"(?<={_BAR})>")


def neutralize(text: str) -> str:
    """`text` made safe to stand inside a prompt block.

    Block tags (`<candidate>`, `</think>`, ...) and bare control tags (`<eos>`, `<image>`, ...)
    become `[candidate]`, `[/think]`, `[eos]`; special tokens such as `<|im_end|>` are broken by
    spaces. All other characters stay, so mathematics such as `0<|x|` reads as before. Applying it
    twice changes nothing more.
    """
    text = _BLOCK_TAG.sub(lambda tag: f"[{tag[1]}{']' if tag[2] else ''}", text)
    return break_special_tokens(_CONTROL_TAG.sub(r"[\1]", text))


def break_special_tokens(text: str) -> str:
    """`text` with `<|` and `|>` (also with the full-width bar) parted by a space.

    Nothing is removed, so no deletion can join its two sides into a new token.
    """
    return _BAR_CLOSE.sub(" >", _OPEN_BAR.sub("< ", text))


def parse_summary(text: str, max_lines: int = 5) -> str | None:
    """Content of the last `<summary>` block of a teacher's reply, None where there is none.

    Text up to the last `</think>` is the teacher's own thinking and does not count. Blank lines
    go; lines beyond `max_lines` are joined to the last one, since cutting them would cut the
    final answer. Raises `ValueError` when `max_lines` is below 1.
    """
    if max_lines < 1:
        raise ValueError(f"max_lines must be at least 1, not {max_lines}")
    content = _last_block(text, "summary")
    if content is None:
        return None
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    kept = [*lines[: max_lines - 1], " ".join(lines[max_lines - 1 :])]
    return "\n".join(kept).strip() or None


def parse_hint(text: str) -> str | None:
    """Content of the last `<hint>` block of a teacher's reply.

    None where there is none and where it holds a boxed expression: a hint is answer-free.
    """
    content = _last_block(text, "hint")
    return None if content is None or "\\boxed" in content or "\\fbox" in content else content


def parse_verdict(text: str) -> Literal["correct", "wrong"] | None:
    """The verdict of a judge's reply: a JSON object with the one key `verdict`, nothing else.

    None for anything malformed, which the method counts as wrong.
    """
    try:
        # Pairs keep a repeated key visible; a plain dict would let the last one win.
        pairs: Any = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    if pairs == (("verdict", "correct"),):
        return "correct"
    return "wrong" if pairs == (("verdict", "wrong"),) else None


def _last_block(text: str, tag: str) -> str | None:
    reply = text.rpartition("</think>")[2]
    if "<think>" in reply:  # cut off while thinking: what looks like a reply is a draft
        return None
    body, closed, _ = reply.rpartition(f"</{tag}>")
    _, opened, content = body.rpartition(f"<{tag}>")
    return content.strip() or None if opened and closed else None
