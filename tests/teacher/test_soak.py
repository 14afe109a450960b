"""Many requests over two servers of which one fails often and dies once."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time

import pytest

from tests.teacher.server import Server
from tests.teacher.test_openai import many
from zppo.config import DataConfig, OpenAITeacherConfig
from zppo.teacher.openai import OpenAITeacher
from zppo.teacher.pool import BreakerRules
from zppo.teacher.retry import Patience

FAILURES = ["500", "429", "reset", "half", "junk", "empty", "503"]


def soak(requests: int, dead_s: float, latency: float, haste: float) -> None:
    """Every question ends with a text or a reason, the dead server is used again, nothing leaks."""
    luck = random.Random(0)

    def flaky(number: int) -> str:
        return luck.choice(FAILURES) if luck.random() < 0.3 else "ok"

    gc.collect()
    sockets = len(os.listdir("/proc/self/fd"))
    with Server(latency=latency) as good, Server(latency=latency, default=flaky) as bad:
        settings = {
            "endpoints": [
                {"url": good.url, "model": "m", "concurrency": 4},
                {"url": bad.url, "model": "m", "concurrency": 12},
            ],
            "timeout_s": 5.0,
        }
        one = OpenAITeacher(
            OpenAITeacherConfig.model_validate(settings),
            DataConfig(),
            Patience(base=haste, longest=10 * haste),
            BreakerRules(cooldown=2 * haste, longest=10 * haste),
        )
        back = 0.0

        async def main():
            nonlocal back

            async def kill() -> None:
                nonlocal back
                while len(bad.seen) < requests // 5:
                    await asyncio.sleep(0.005)
                bad.die(dead_s)
                back = time.monotonic() + dead_s

            killer = asyncio.create_task(kill())
            questions = many(requests)
            # As a step asks: several chunks of questions at the same time.
            chunks = [questions[i::4] for i in range(4)]
            answers = await asyncio.gather(
                *(one.sample([(q, q.text) for q in c], 1, (0, i)) for i, c in enumerate(chunks))
            )
            await killer
            await one.aclose()
            await asyncio.sleep(0.05)
            assert len(asyncio.all_tasks()) == 1
            return chunks, answers

        began = time.monotonic()
        chunks, answers = asyncio.run(main())
        seconds = time.monotonic() - began
    failed = [f.question_id for f in one.drain_failures()]
    texts = {
        q.id: t for c, a in zip(chunks, answers, strict=True) for q, t in zip(c, a, strict=True)
    }
    assert len(texts) == requests
    assert {i for i, t in texts.items() if not t} == set(failed)
    assert len(failed) == len(set(failed)) <= requests // 50
    assert all(e.active == 0 for e in one.endpoints)
    # The server that died carries its part again; how large a part depends on the machine's load.
    late = [[s.at for s in server.seen if s.at > back] for server in (good, bad)]
    assert len(late[1]) > requests // 20 and len(late[0]) > 0
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= sockets
    print(
        f"{requests} requests in {seconds:.1f} s; {len(failed)} failed; tries: good "
        f"{len(good.seen)}, flaky {len(bad.seen)}; after the death good {len(late[0])}, "
        f"flaky {len(late[1])}"
    )


def test_short_soak():
    soak(requests=240, dead_s=0.5, latency=0.06, haste=0.05)


@pytest.mark.slow
def test_soak():
    """2,000 requests; one server fails 30% of the time and is dead for ten seconds."""
    soak(requests=2_000, dead_s=10.0, latency=0.25, haste=0.5)
