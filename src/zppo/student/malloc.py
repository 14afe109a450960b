"""Keep freed memory with the process, so that an update does not fetch it page by page again.

An update allocates and frees the same tensors over and over. glibc gives large ones back to the
system at once and those of a thread's own heap soon, and gets them back as new pages, each of which
the system has to clear: 5% to 10% of an update's time (benchmarks/notes.md). The highest use of
memory stays what it is; what is free in between is not the system's.
"""

from __future__ import annotations

import ctypes
import functools
import platform

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


@functools.cache
def keep_freed_memory() -> bool:
    """For the rest of this process; whether this system's malloc can."""
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    options = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
    return all(set_option(option, value) == 1 for option, value in options.items())
