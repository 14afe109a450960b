"""Writing files whole."""

from __future__ import annotations

import os
from pathlib import Path

from zppo.errors import DataError


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one move: a kill leaves the old file or the new one. Raises
    `DataError`."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"Cannot write `{path}`: {error.strerror}") from None
