"""Where an evaluation is, and how long it has still to go."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.status import Status

#: Seconds between two lines where the output is no terminal.
_QUIET_S = 30.0


class ProgressLine:
    """A live line on a terminal; elsewhere a plain one now and then, and one at every end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._task = ("", "")
        self._began = (0.0, 0)  # time, and what was done then
        self._shown = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, key: str, phase: str, done: int, total: int) -> None:
        """`done` of `total` responses of a benchmark are asked for, or scored."""
        now = time.monotonic()
        if (key, phase) != self._task:
            self._task, self._began, self._shown = (key, phase), (now, done), now
        text = f"{key}: {done}/{total} {phase}{self._left(now, done, total)}"
        if self._status is not None:
            self._status.update(text)
        elif done == total or now - self._shown > _QUIET_S:
            self._shown = now
            self.console.print(text, markup=False)

    def _left(self, now: float, done: int, total: int) -> str:
        """From the speed since this part began; responses found on the disk took no time."""
        began, before = self._began
        if not before < done < total:
            return ""
        seconds = round((now - began) / (done - before) * (total - done))
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f", about {hours}:{minutes:02d}:{rest:02d} left"
