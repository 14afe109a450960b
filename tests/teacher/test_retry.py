"""Waiting times, and the pool's circuit breaker, without a network."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from zppo.config import EndpointConfig
from zppo.teacher.pool import BreakerRules, Endpoint, Pool
from zppo.teacher.retry import Patience, Trouble, retry_after


def test_backoff_grows_to_a_bound_and_is_decided_by_its_generator():
    patience = Patience(base=1.0, longest=6.0)
    waits = [patience.backoff(k, random.Random(k)) for k in range(1, 9)]
    assert waits == [patience.backoff(k, random.Random(k)) for k in range(1, 9)]
    for k, wait in enumerate(waits, start=1):
        full = min(6.0, 2.0 ** (k - 1))
        assert full / 2 <= wait <= full


def test_what_a_server_asks_for_is_bounded():
    patience, rng = Patience(longest_asked=9.0), random.Random(0)
    assert patience.asked(Trouble("http_429", wait=3.0), 1, rng) == 3.0
    assert patience.asked(Trouble("http_429", wait=1e9), 1, rng) == 9.0
    assert patience.asked(Trouble("http_429"), 1, rng) <= patience.base


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds(header, seconds):
    assert retry_after(header) == seconds
    assert retry_after(None) is None


def test_retry_after_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (retry_after(later) or 0) <= 60
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0.0


def endpoints(*limits: int) -> list[Endpoint]:
    return [
        Endpoint(EndpointConfig(url=f"http://h:{i}/v1", model="m", concurrency=limit))
        for i, limit in enumerate(limits, start=1)
    ]


def test_the_least_busy_is_chosen_by_the_share_of_its_limit():
    async def main():
        small, large = endpoints(2, 6)
        pool = Pool([small, large], 1.0)
        for _ in range(8):
            assert await pool.acquire()
        return small.active, large.active

    assert asyncio.run(main()) == (2, 6)


def test_one_to_avoid_is_only_taken_when_no_other_has_room():
    async def main():
        a, b = endpoints(1, 1)
        pool = Pool([a, b], 1.0)
        first, second = await pool.acquire(avoid=[a]), await pool.acquire(avoid=[a])
        return [lease.endpoint is e for lease, e in ((first, b), (second, a)) if lease]

    assert asyncio.run(main()) == [True, True]


def test_a_circuit_opens_probes_once_and_closes():
    rules = BreakerRules(threshold=3, cooldown=0.05, longest=1.0)

    async def main():
        (endpoint,) = endpoints(8)
        pool = Pool([endpoint], 5.0, rules)
        leases = [await pool.acquire() for _ in range(5)]
        for lease in leases[:4]:
            assert lease
            pool.failed(lease)
        assert endpoint.opened == 1  # a straggler's failure does not open it further
        waiting = [asyncio.create_task(pool.acquire()) for _ in range(4)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in waiting)
        await asyncio.sleep(0.06)
        probes = [task.result() for task in waiting if task.done()]
        assert len(probes) == 1 and probes[0]
        pool.failed(probes[0])
        assert endpoint.opened == 2
        await asyncio.sleep(0.15)
        probes = [t.result() for t in waiting if t.done() and t.result() is not probes[0]]
        assert len(probes) == 1 and probes[0]
        pool.succeeded(probes[0])
        await asyncio.sleep(0)
        assert all(task.done() for task in waiting) and not endpoint.is_open
        pool.close()

    asyncio.run(main())


def test_waiting_ends_when_nobody_answers_for_long():
    async def main():
        (endpoint,) = endpoints(2)
        pool = Pool([endpoint], 0.1, BreakerRules(threshold=1, cooldown=60.0, longest=60.0))
        lease = await pool.acquire()
        assert lease
        pool.failed(lease)
        return await asyncio.gather(*(pool.acquire() for _ in range(50)))

    assert asyncio.run(main()) == [None] * 50


def test_a_waiter_that_is_cancelled_loses_nothing():
    async def main():
        (endpoint,) = endpoints(1)
        pool = Pool([endpoint], 1.0)
        held = await pool.acquire()
        waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert held
        pool.succeeded(held)  # hands over to the second
        waiting[1].cancel()  # before it could run
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        lease = await waiting[2]
        assert lease
        pool.succeeded(lease)
        return endpoint.active

    assert asyncio.run(main()) == 0
