"""Questions as rows of a .jsonl file that `load_questions` reads back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from zppo.data.content import content_name, content_suffix
from zppo.data.files import write_atomic
from zppo.types import Media, Question


class RowWriter:
    """Rows for a file in `folder`. Files are named relative to it; embedded media are written
    under `media/`, by content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def line(self, question: Question) -> bytes:
        """The row of a question, with its line end."""
        row: dict[str, Any] = {
            "id": question.id,
            "question": question.text,
            "answer": question.answer,
            "options": question.options,
            "images": [self._part(m.parts[0]) for m in question.media if m.kind == "image"],
            "videos": [self._film(m) for m in question.media if m.kind == "video"],
            "kind": question.kind,
            "reference": question.reference,
            "source": question.source,
        }
        kept = {name: value for name, value in row.items() if value not in (None, [], "")}
        return json.dumps(kept, ensure_ascii=False).encode("utf-8") + b"\n"

    def _film(self, media: Media) -> Any:
        parts = [self._part(part) for part in media.parts]
        return parts[0] if len(parts) == 1 else {"frames": parts, "fps": media.fps}

    def _part(self, part: str | bytes) -> str:
        if isinstance(part, str):
            path = Path(part)
            inside = path.is_relative_to(self.folder.parent)
            return os.path.relpath(path, self.folder) if inside else str(path)
        name = f"media/{content_name(part)}{content_suffix(part) or '.mp4'}"
        if not (self.folder / name).exists():
            write_atomic(self.folder / name, part)
        return name
