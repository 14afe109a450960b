"""Rules that misbehave, for the processes of a pool to run. The box says how."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def rule(extracted: str, gold: str, options: tuple[str, ...] | None, mode: str) -> bool:
    """`hang`, `spin`, `die`, `kill`, `raise`, `memory`, `print`, `once FILE`; else equality."""
    del options, mode
    word, _, rest = extracted.partition(" ")
    if word == "hang":
        time.sleep(600)
    while word == "spin":
        pass
    if word == "die":
        os._exit(3)
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "raise":
        raise ValueError(rest)
    if word == "memory":
        return bool(bytearray(8 << 30))
    if word == "print":
        print("1" * 100, flush=True)
        sys.stdin.read()
    if word == "once" and not Path(rest).exists():  # dies the first time only
        Path(rest).touch()
        os._exit(3)
    return extracted == gold
