"""A page as one file: nothing is fetched, nothing that a model wrote can act.

Three lines of defence. Text goes through `text` on its way into the page. Data for the script is
JSON in which no `<` is left. And a content security policy lets the page run its own script alone,
by hash, and load nothing but what it holds itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Any

from zppo.report.text import visible


def text(value: str) -> str:
    """Text of anybody's, for between tags and for quoted attributes."""
    return escape(visible(value))


def data_block(name: str, value: Any) -> str:
    """JSON for the page's script to read, under the id `name`."""
    content = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        content = content.replace(char, f"\\u{ord(char):04x}")
    return f'<script type="application/json" id="{name}">{content}</script>'


def page(title: str, body: str, styles: Iterable[str], scripts: Iterable[str]) -> str:
    """The whole file. `styles` and `scripts` name files of `assets/`; all have the colours."""
    style = asset("colours.css") + "".join(map(asset, styles))
    script = "\n".join(f"{{\n{asset(name)}}}" for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def asset(name: str) -> str:
    """A style sheet or script that ships with the package."""
    return (files("zppo.report") / "assets" / name).read_text("utf-8")
