"""The process at the other end of `workers.py`: grades what comes over its socket, nothing else.

It reads one JSON array a line, the arguments of the rule, and answers each with one byte. It ends
when the socket does, so it never outlives the process that started it, and by its own alarm when
one call takes twice the deadline, should that process no longer be there to end it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable

READY, RIGHT, WRONG, FAILED = b"s", b"1", b"0", b"e"


def main(rule: str, deadline_s: float, memory_mb: int) -> None:
    """Serve `rule` (`module:function`) on the socket that is standard input."""
    with socket.socket(fileno=os.dup(0)) as channel:
        _silence()
        module, _, name = rule.partition(":")
        function = getattr(importlib.import_module(module), name)
        _limit(memory_mb)
        channel.sendall(READY)
        for line in channel.makefile("rb"):
            signal.setitimer(signal.ITIMER_REAL, 2 * deadline_s)  # unhandled, it ends the process
            reply = _call(function, line)
            signal.setitimer(signal.ITIMER_REAL, 0)
            channel.sendall(reply)


def _call(rule: Callable[..., bool], line: bytes) -> bytes:
    try:
        extracted, gold, options, mode = json.loads(line)
        choices = tuple(options) if options else None
        return RIGHT if rule(extracted, gold, choices, mode) else WRONG
    except Exception:  # out of memory too: the process goes on, the answer has no verdict
        return FAILED


def _silence() -> None:
    """Whatever a rule prints must not end up on the socket or in the user's terminal."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which closes the socket


def _limit(memory_mb: int) -> None:
    import resource  # POSIX only, and `workers.py` imports this module anywhere

    for kind, bound in ((resource.RLIMIT_AS, memory_mb << 20), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError) as error:  # not every system has every limit
            print(f"zppo: grading without limit {kind}: {error}", file=sys.stderr)
