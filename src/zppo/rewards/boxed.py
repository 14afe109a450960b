r"""The answer a response states: the content of its last balanced `\boxed{...}` (method section 7).

What counts, decided once here:

- The box that *opens* last wins, so `\boxed{\boxed{5}}` holds `5`.
- A box that never closes is no box: the last one that does close counts.
- A box with nothing in it states nothing and is passed over.
- `\{`, `\}` and every other escaped character are content, never structure.
- `\boxed {5}` and the JSON-escaped `\\boxed{5}` are read; `\boxed 5` (in TeX, one token) and
  `\fbox{5}` are not: prompts ask for `\boxed{}` and the reward should not teach other habits.

Time is linear in the length of the text whatever it holds.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\{1,2}boxed\s*\{|\\.|[{}]", re.DOTALL)
_OPEN = re.compile(r"\\boxed\s*\{")


def extract_boxed(text: str) -> str | None:
    r"""The stripped content of the last balanced, non-empty `\boxed{...}`, None without one."""
    return _last_box(text) or _any_box(text)


def _last_box(text: str) -> str | None:
    """The box that opens last, when it closes: nearly every response, without reading it all."""
    opening = _OPEN.match(text, max(text.rfind("\\boxed"), 0))
    if opening is None:
        return None
    depth = 1
    for token in _TOKEN.finditer(text, opening.end()):
        kind = token.group()
        depth += (kind == "{") - (kind == "}")
        if depth == 0:
            return text[opening.end() : token.start()].strip() or None
    return None


def _any_box(text: str) -> str | None:
    """The general case in one pass: of all boxes that close and hold something, the last opened."""
    first = text.find("\\boxed")
    if first < 0:
        return None
    stack: list[int] = []  # where each open brace's box content starts, -1 for a plain brace
    best = (-1, -1)
    for token in _TOKEN.finditer(text, max(first - 1, 0)):
        kind = token.group()
        if kind == "}":
            start = stack.pop() if stack else -1
            if start > best[0] and not text[start : token.start()].isspace():
                best = max(best, (start, token.start())) if start < token.start() else best
        elif kind == "{":
            stack.append(-1)
        elif "boxed" in kind:
            stack.append(token.end())
    return text[best[0] : best[1]].strip() if best[0] >= 0 else None
