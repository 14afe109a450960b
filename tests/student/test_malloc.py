"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from zppo.student.malloc import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from zppo.student.malloc import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def work():
    for _ in range(20):
        torch.ones(40 * 2**18)  # 40 MiB
work()  # the heap grows until it has room for an aligned piece of this size
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_the_same_memory_is_not_fetched_again():
    counts = [
        int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, text=True,
                           capture_output=True).stdout)
        for how in ("keep", "leave")
    ]  # fmt: skip
    assert counts[0] < 100 < 1_000 < counts[1]


def test_elsewhere_nothing_is_done(monkeypatch):
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
