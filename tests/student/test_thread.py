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


def test_the_next_chunk_samples_while_the_caller_works():
    student = tiny.student("llama", "student.sampler_batch_tokens=1")
    started: list[int] = []
    sample = student._sample

    def watched(prompts, batch, *rest):
        started.extend(batch)
        return sample(prompts, batch, *rest)

    student._sample = watched

    async def run():
        seen = []
        async for chunk in student.rollout(tiny.prompts("llama"), 2, (0,)):
            seen += chunk
            # The caller holds the loop, as synchronous grading does; the thread goes on.
            deadline = time.monotonic() + 10
            while len(started) < min(len(seen) + 1, 3) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert len(started) == min(len(seen) + 1, 3)
        return seen

    assert sorted(asyncio.run(run())) == [0, 1, 2]


def test_a_caller_that_leaves_early_abandons_the_chunk_ahead():
    student = tiny.student("llama", "student.sampler_batch_tokens=1")
    ended: list[bool] = []
    sample = student._sample

    def watched(prompts, batch, *rest):
        if len(ended) == 0:
            ended.append(False)
            return sample(prompts, batch, *rest)
        for _ in range(2_000):
            if student._worker.abandoned():
                ended.append(True)
                return {}
            time.sleep(0.005)
        raise AssertionError("nobody stopped the chunk ahead")

    student._sample = watched

    async def run():
        chunks = student.rollout(tiny.prompts("llama"), 2, (0,))
        async for _ in chunks:
            break
        await asyncio.sleep(0.05)
        await chunks.aclose()
        return await asyncio.wait_for(student._worker.run(lambda: "free"), 10)

    assert asyncio.run(run()) == "free"
    assert ended == [False, True]
