"""JSONL files that grow line by line and survive a kill in the middle of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zppo.errors import RunError
from zppo.runs.files import naming


def append_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows in one write and flush them to the disk. Raises `RunError`.

    A line that a kill left unfinished is ended first, so that it spoils no other.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not text:
        return
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as out:
            out.seek(0, os.SEEK_END)
            if out.tell():
                out.seek(-1, os.SEEK_END)
                if out.read(1) != b"\n":
                    out.write(b"\n")
            out.write(text.encode("utf-8", errors="replace"))
            out.flush()
            os.fsync(out.fileno())


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Every whole row; none where there is no file. Raises `RunError` for a damaged one.

    Only what a kill can leave, a line without its end, is passed over.
    """
    if not file.is_file():
        return []
    with naming(file, "read"):
        lines = file.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut short by a kill; `append_lines` went on after it
        if not isinstance(row, dict):
            raise RunError(f"`{file}` holds a line that is no JSON object: {line[:80]!r}")
        rows.append(row)
    return rows
