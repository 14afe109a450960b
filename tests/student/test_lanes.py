"""Prompts that are sampled in lanes, each in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch

from tests import tiny
from zppo.student import lanes, sampler
from zppo.student.lanes import in_lanes
from zppo.student.sampler import Sampling, sample_groups
from zppo.student.thread import ModelThread


@pytest.fixture
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(lanes, "LANE_ROWS", 1)
    yield
    torch.set_num_threads(before)


def test_results_keep_their_order_and_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(lanes, "LANE_ROWS", 2)
    seen = {}

    def work(items):
        seen[tuple(items)] = (threading.current_thread().name, torch.get_num_threads())
        return [10 * i for i in items]

    before = torch.get_num_threads()
    try:
        for threads, parts in ((6, 3), (4, 2), (5, 1), (1, 1)):
            seen.clear()
            torch.set_num_threads(threads)
            assert in_lanes(work, range(7), 1, threads) == [10 * i for i in range(7)]
            assert sorted(i for part in seen for i in part) == list(range(7))
            assert len(seen) == parts and {n for _, n in seen.values()} == {threads // parts}
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert in_lanes(work, [], 8, 4) == []


def test_small_batches_stay_in_the_callers_thread():
    here = threading.current_thread()
    work = lambda items: [threading.current_thread() for _ in items]  # noqa: E731
    assert set(in_lanes(work, range(8), lanes.LANE_ROWS // 4 - 1, 2)) == {here}
    assert here not in in_lanes(work, range(8), lanes.LANE_ROWS // 4, 2)


def test_an_error_in_a_lane_is_raised(two_threads):
    def work(items):
        if 3 in items:
            raise ValueError("lane two")
        return list(items)

    with pytest.raises(ValueError, match="lane two"):
        in_lanes(work, range(4), 1, 2)


@pytest.mark.parametrize("threads", [None, 2])
def test_threads_that_start_later_are_not_limited_to_a_lanes_share(two_threads, threads):
    numbers = []
    model = ModelThread("later", threads)
    in_lanes(lambda items: [torch.get_num_threads() for _ in items], range(4), 1, 2)
    later = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    later.start()
    later.join()
    numbers.append(asyncio.run(model.run(torch.get_num_threads)))
    assert numbers == [2, 2]


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_lanes_and_batches_do_not_change_what_is_drawn(two_threads, monkeypatch, kind):
    student = tiny.student(kind)
    encoded = [student.encoder.encode(p) for p in tiny.prompts(kind)]
    parts, sample = [], sampler._sample

    def watched(*args):
        parts.append(len(args[3].ids))
        return sample(*args)

    monkeypatch.setattr(sampler, "_sample", watched)

    def sampled(some):
        return sample_groups(
            student.decoder,
            student.head,
            student.encoder.collate([encoded[i] for i in some], "cpu"),
            5,
            Sampling(max_tokens=30),
            list(range(0, len(tiny.tokenizer()), 12)),
            student.encoder.placeholder_ids,
            [(7, i) for i in some],
        )

    in_two = sampled([0, 1, 2])
    assert sorted(parts) == ([3] if kind == "llama" else [1, 2])  # lanes are of a `QwenStep`
    monkeypatch.setattr(lanes, "LANE_ROWS", 1_000)
    together = sampled([0, 1, 2])
    alone = [sampled([i])[0] for i in (2, 0, 1)]
    alone = [alone[1], alone[2], alone[0]]
    for a, b, c in zip(in_two, together, alone, strict=True):
        tokens = [[ids.tolist() for ids in group.token_ids] for group in (a, b, c)]
        assert tokens[0] == tokens[1] == tokens[2]
        assert a.finished == b.finished == c.finished
        for x, y in zip(a.logprobs, b.logprobs, strict=True):
            torch.testing.assert_close(torch.from_numpy(x), torch.from_numpy(y), atol=1e-4, rtol=0)
