"""The one thread in which a model of this process computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class ModelThread:
    """Runs a model's work one call after another, and keeps the event loop free meanwhile.

    A call whose caller was cancelled cannot be killed. Long ones ask `abandoned` now and then and
    end early, so that neither the next call nor the end of the process has to wait for them.
    """

    def __init__(self, name: str, threads: int | None = None):
        # A thread that says nothing gets what some other thread has said last (see lanes.py).
        threads = threads or torch.get_num_threads()
        self._pool = ThreadPoolExecutor(1, name, initializer=use_threads, initargs=(threads,))
        self._cancelled = threading.Event()

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """The result of `function`, computed in the thread."""
        return await self.start(function, *args)

    def start(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Queue `function` now, to be awaited later. Cancelling the future abandons the call."""
        cancelled = threading.Event()

        def call() -> T:
            self._cancelled = cancelled
            return function(*args)

        future = asyncio.wrap_future(self._pool.submit(call))
        future.add_done_callback(lambda done: cancelled.set() if done.cancelled() else None)
        return future

    def abandoned(self) -> bool:
        """Whether nobody waits any more for the call that runs now."""
        return self._cancelled.is_set()


def use_threads(number: int) -> None:
    """Set up the calling thread for a model that computes with `number` threads."""
    # The gated DeltaNet's decay factors become denormals, which cost it two thirds of its speed on
    # CPU. The setting is per thread.
    torch.set_flush_denormal(True)
    torch.set_num_threads(number)
