"""The name of a media file that is stored by what it holds."""

from __future__ import annotations

import hashlib

#: First bytes of the formats that are read, so that a stored file opens with a double click.
_MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
    b"\x1aE\xdf\xa3": ".mkv",
}


def content_name(content: bytes) -> str:
    """32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:32]


def content_suffix(content: bytes) -> str:
    """`.png`, ..., or nothing where the first bytes tell nothing."""
    if content[4:8] == b"ftyp":
        return ".mp4"
    return next((end for magic, end in _MAGIC.items() if content.startswith(magic)), "")
