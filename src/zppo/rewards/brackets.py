r"""Cutting an answer at its top level: outside of (), [], {}, \{ \} and \begin ... \end."""

from __future__ import annotations

import re

_STRUCTURE = re.compile(r"\\begin\b|\\end\b|\\[{}]|\\\\|[()\[\]{}]")
_OPEN = frozenset(("(", "[", "{", "\\{", "\\begin"))
_CLOSE = frozenset((")", "]", "}", "\\}", "\\end"))


def split_top(text: str, separator: re.Pattern[str]) -> list[str]:
    """The stripped pieces of `text` between the matches of `separator` at depth zero.

    An interval may open with one kind of bracket and close with another, so only the depth
    counts. A text whose brackets do not balance is one piece.
    """
    shallow = _shallow_spans(text)
    if shallow is None:
        return [text.strip()]
    pieces, start = [], 0
    for match in separator.finditer(text):
        if any(low <= match.start() and match.end() <= high for low, high in shallow):
            pieces.append(text[start : match.start()].strip())
            start = match.end()
    return [*pieces, text[start:].strip()]


def _shallow_spans(text: str) -> list[tuple[int, int]] | None:
    """Where the depth is zero, None when the brackets do not balance."""
    spans, depth, start = [], 0, 0
    for match in _STRUCTURE.finditer(text):
        if match.group() in _OPEN:
            if depth == 0:
                spans.append((start, match.start()))
            depth += 1
        elif match.group() in _CLOSE:
            depth -= 1
            start = match.end()
            if depth < 0:
                return None
    spans.append((start, len(text)))
    return spans if depth == 0 else None


def enclosed(text: str) -> tuple[str, str, str] | None:
    r"""(opener, inside, closer) when one pair of (), [] or \{ \} (or a mix) encloses it all."""
    match = _STRUCTURE.match(text)
    if match is None or match.group() not in ("(", "[", "\\{"):
        return None
    depth = 0
    for token in _STRUCTURE.finditer(text):
        depth += (token.group() in _OPEN) - (token.group() in _CLOSE)
        if depth == 0:
            if token.end() != len(text) or token.group() not in (")", "]", "\\}"):
                return None
            return match.group(), text[match.end() : token.start()].strip(), token.group()
    return None
