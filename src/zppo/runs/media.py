"""Images and videos in the records of a run: by path, or once by content under `media/`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from zppo.errors import RunError
from zppo.runs.files import naming, write_atomic
from zppo.types import Media


class MediaStore:
    """Turns `Media` into JSON and back. A part given as bytes becomes a file named by its hash,
    written when it is first met; a part given as a path stays that path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def to_dict(self, media: Media) -> dict[str, Any]:
        """`{"kind", "parts", "fps"}`; a part is `{"path": ...}` or `{"stored": "media/..."}`.

        Raises `RunError` when a file cannot be written.
        """
        parts = [{"path": p} if isinstance(p, str) else self._store(p) for p in media.parts]
        return {"kind": media.kind, "parts": parts, "fps": media.fps}

    def from_dict(self, row: dict[str, Any]) -> Media:
        """What `to_dict` was given. Raises `RunError` when a stored file is gone or changed."""
        parts = tuple(p["path"] if "path" in p else self._read(p["stored"]) for p in row["parts"])
        return Media(kind=row["kind"], parts=parts, fps=row["fps"])

    def _store(self, content: bytes) -> dict[str, str]:
        name = f"media/{_digest(content)}{_suffix(content)}"
        path = self.root / name
        # The size tells a file that a power cut emptied; a rename makes any other one whole.
        if not path.exists() or path.stat().st_size != len(content):
            write_atomic(path, content, sync=False)
        return {"stored": name}

    def _read(self, name: str) -> bytes:
        path = self.root / name
        with naming(path, "read"):
            content = path.read_bytes()
        if path.stem != _digest(content):
            raise RunError(f"`{path}` was changed since the run wrote it; restore it to resume.")
        return content


#: First bytes of the formats we meet, so that a stored file opens with a double click.
_MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}


def _suffix(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return ".mp4"
    return next((suffix for magic, suffix in _MAGIC.items() if content.startswith(magic)), "")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
