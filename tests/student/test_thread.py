"""The model's thread: one call after another, and a cancelled one soon makes room."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests import tiny
from zppo.errors import ModelError
from zppo.student.thread import ModelThread


def test_results_and_errors_come_back():
    def fail():
        raise ModelError("no")

    async def run():
        thread = ModelThread("t")
        names = [await thread.run(lambda: threading.current_thread().name) for _ in range(2)]
        with pytest.raises(ModelError, match="no"):
            await thread.run(fail)
        return names

    assert asyncio.run(run()) == ["t_0"] * 2


def test_only_the_call_that_was_cancelled_is_abandoned():
    seen: list[bool] = []

    def long():
        for _ in range(1_000):
            if thread.abandoned():
                seen.append(True)
                return
            time.sleep(0.005)

    async def run():
        task = asyncio.create_task(thread.run(long))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await thread.run(thread.abandoned)

    thread = ModelThread("t")
    assert asyncio.run(run()) is False and seen == [True]


def test_a_cancelled_rollout_stops_sampling():
    """Thousands of tokens were asked for; the student is free again within moments."""
    student = tiny.student("llama", "rollout.max_response_tokens=100000")
    student.loaded.model.generation_config.eos_token_id = None
    student.encoder.placeholder_ids = [
        student.tokenizer.eos_token_id
    ]  # so that no response ever ends

    async def run():
        async def sample():
            async for _ in student.rollout(tiny.prompts("llama")[:1], 2, (0,)):
                raise AssertionError("no response can be complete")

        task = asyncio.create_task(sample())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await asyncio.wait_for(student._worker.run(lambda: "free"), 10)

    assert asyncio.run(run()) == "free"
