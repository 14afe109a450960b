"""Prompts that were encoded a moment ago: what is rolled out is learnt from next."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from zppo.types import Prompt

T = TypeVar("T")


class Recent(Generic[T]):
    """What was made of the last prompts, by identity, within a number of bytes. For any thread."""

    def __init__(self, limit: int):
        self.limit = limit
        self._bytes = 0
        self._lock = threading.Lock()
        # With the prompt itself, so that no other can take its place in memory; oldest first.
        self._kept: dict[int, tuple[Prompt, T, int]] = {}

    def get(self, prompt: Prompt) -> T | None:
        with self._lock:
            kept = self._kept.get(id(prompt))
            return None if kept is None else kept[1]

    def put(self, prompt: Prompt, value: T, size: int) -> None:
        """Keep `value` of `size` bytes, unless it alone is too large."""
        with self._lock:
            if size > self.limit or id(prompt) in self._kept:
                return
            self._kept[id(prompt)] = prompt, value, size
            self._bytes += size
            while self._bytes > self.limit:
                _, _, size = self._kept.pop(next(iter(self._kept)))
                self._bytes -= size
