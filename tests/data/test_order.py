"""The data order: every epoch visits every question once, and resume needs no state."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zppo.data.order import PromptOrder

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32)


@given(n=SIZES, size=SIZES, seed=SEEDS, epochs=st.integers(1, 4))
def test_each_epoch_visits_each_question_once(n: int, size: int, seed: int, epochs: int) -> None:
    order = PromptOrder(n, seed)
    steps = -(-n * epochs // size)
    visits = list(itertools.chain.from_iterable(order.batch(s, size) for s in range(steps)))
    for epoch in range(epochs):
        assert sorted(visits[epoch * n : (epoch + 1) * n]) == list(range(n))


@given(n=SIZES, size=SIZES, seed=SEEDS, step=st.integers(0, 300))
def test_no_question_twice_in_a_batch_that_fits(n: int, size: int, seed: int, step: int) -> None:
    batch = PromptOrder(n, seed).batch(step, size)
    assert len(batch) == size
    assert len(set(batch)) == min(size, n) or size > n
    counts = [batch.count(i) for i in set(batch)]
    assert size <= n or max(counts) <= -(-size // n) + 1


@given(n=SIZES, size=SIZES, seed=SEEDS, step=st.integers(0, 300))
def test_a_fresh_loader_continues_where_the_old_one_stopped(
    n: int, size: int, seed: int, step: int
) -> None:
    running = PromptOrder(n, seed)
    for earlier in range(max(0, step - 3), step):
        running.batch(earlier, size)
    assert running.batch(step, size) == PromptOrder(n, seed).batch(step, size)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    first, second = PromptOrder(100, 0).batch(0, 100), PromptOrder(100, 0).batch(1, 100)
    assert first != second
    assert first != PromptOrder(100, 1).batch(0, 100)
    assert first != list(range(100))


def test_the_papers_protocol_is_one_pass() -> None:
    order = PromptOrder(76_800, 0)
    assert order.epoch(199, 384) == 1.0
    assert len(set(order.batch(199, 384))) == 384


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-1, 0), (3, -1)])
def test_impossible_orders_are_refused(n: int, seed: int) -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        PromptOrder(n, seed)


@pytest.mark.parametrize(("step", "size"), [(-1, 1), (0, 0)])
def test_impossible_batches_are_refused(step: int, size: int) -> None:
    with pytest.raises(ValueError, match="step >= 0"):
        PromptOrder(3, 0).batch(step, size)
