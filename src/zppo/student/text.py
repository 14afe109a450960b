"""Plain text to token ids and back, the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo.types import Response


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """See `Student.encode`."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def decode_text(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """See `Student.decode`."""
    return tokenizer.decode(list(token_ids), skip_special_tokens=True)


def text_response(tokenizer: Any, text: str) -> Response:
    """See `Student.as_response`."""
    ids = [*encode_text(tokenizer, text), tokenizer.eos_token_id]
    return Response(np.asarray(ids, dtype=np.int64), None, text, True)
