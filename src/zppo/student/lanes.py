"""Sampling on several cores: each has prompts of its own.

Torch shares out one operation at a time among its threads, and the compiled loops of a `QwenStep`
run in one thread. So two threads with half of the prompts each beat one call with two threads where
both have rows enough. With transformers' forward they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

from zppo.student.thread import use_threads

T = TypeVar("T")

#: Rows of a lane at least (benchmarks/notes.md).
LANE_ROWS = 96


def in_lanes(
    work: Callable[[Sequence[int]], list[T]], items: Sequence[int], n: int, threads: int
) -> list[T]:
    """The results of `work` on all items, which have `n` rows each, in order: in one call with all
    of this thread's torch threads, or in lanes that have a part of items and threads each. An error
    in a lane is raised when the others have ended."""
    most = min(threads, len(items) * n // LANE_ROWS, len(items))
    lanes = max((x for x in range(1, most + 1) if threads % x == 0), default=1)
    if lanes == 1:
        return work(items)

    cuts = [len(items) * i // lanes for i in range(lanes + 1)]
    parts = [items[a:b] for a, b in pairwise(cuts)]
    try:
        share = (threads // lanes,)
        with ThreadPoolExecutor(lanes, "zppo-lane", use_threads, share) as pool:
            return [result for part in pool.map(work, parts) for result in part]
    finally:
        # The number is a thread's own, but threads that start later take the one that was set last.
        torch.set_num_threads(threads)
