"""Text of a model made safe to look at: whatever would act on a screen is shown instead.

A response can hold terminal escape sequences, controls that reverse the direction of what follows,
and characters without a width. `visible` spells them out; what is left can only be read. Pages
escape it for HTML on top.
"""

from __future__ import annotations

import re
import unicodedata

#: Kept though they are controls: they only move on, to the next line or tab stop.
_KEPT = "\n\t"

#: Format characters that scripts and emoji need: joiners, and the variation selectors (no Cf).
_NEEDED = "\u200c\u200d"

#: Controls, format characters (bidi, zero width, tags), surrogates, private use, line separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""`text` with every character that acts or hides spelt as `\x1b` or `\u202e`."""
    if text.isascii() and not _ASCII_CONTROLS.search(text):
        return text
    return "".join(_shown(c) for c in text)


_ASCII_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _shown(char: str) -> str:
    code = ord(char)
    no_character = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # XML has none of them
    hidden = no_character or unicodedata.category(char) in _HIDDEN
    if char in _KEPT or char in _NEEDED or not hidden:
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else _long(code)


def _long(code: int) -> str:
    return f"\\U{code:08x}"


def one_line(text: str, width: int) -> str:
    """`visible` text on one line, cut to `width` characters with an ellipsis."""
    line = " ".join(visible(text[: 4 * width + 200]).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def cut(text: str, limit: int) -> str:
    """`text`, or its beginning and how many characters were left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[... {len(text) - limit:,} more characters]"
