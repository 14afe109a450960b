"""Images and videos in the records of a run: by path, or once by content under `media/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zppo.data.content import content_name, content_suffix
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
        name = f"media/{content_name(content)}{content_suffix(content)}"
        path = self.root / name
        # The size tells a file that a power cut emptied; a rename makes any other one whole.
        if not path.exists() or path.stat().st_size != len(content):
            write_atomic(path, content, sync=False)
        return {"stored": name}

    def _read(self, name: str) -> bytes:
        path = self.root / name
        with naming(path, "read"):
            content = path.read_bytes()
        if path.stem != content_name(content):
            raise RunError(f"`{path}` was changed since the run wrote it; restore it to resume.")
        return content
