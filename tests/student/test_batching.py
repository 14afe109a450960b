"""Any groups, any number of updates: nothing is lost and nothing enters twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zppo.student.batching import Piece, micro_batches, mini_batches, with_gradient
from zppo.types import Group, GroupKind, Prompt, Question, Response, Rollout, RolloutStatus

PROMPT = Prompt(Question("q", "", ""), GroupKind.PLAIN, "")
ROLLOUT = Rollout(Response(np.zeros(1, np.int64), None, "", True), 0.0, RolloutStatus.GRADED)

sizes_and_updates = st.lists(st.integers(1, 9), min_size=1, max_size=20).flatmap(
    lambda sizes: st.tuples(st.just(sizes), st.integers(1, sum(sizes)))
)


def groups_of(sizes):
    return [Group(PROMPT, (ROLLOUT,) * n) for n in sizes]


def flat(pieces):
    return [i for piece in pieces for i in piece.flat]


@given(sizes_and_updates, st.integers(0, 5))
def test_mini_batches_hold_every_rollout_once(case, seed):
    sizes, updates = case
    batches = mini_batches(groups_of(sizes), updates, np.random.default_rng(seed))
    assert len(batches) == updates and all(batches)
    assert sorted(flat(p for batch in batches for p in batch)) == list(range(sum(sizes)))
    firsts = np.cumsum([0, *sizes])
    for piece in (p for batch in batches for p in batch):
        assert piece.first == firsts[piece.group] and max(piece.rows) < sizes[piece.group]


@given(sizes_and_updates, st.integers(0, 5))
def test_mini_batches_differ_by_one_group_or_one_rollout_at_most(case, seed):
    sizes, updates = case
    batches = mini_batches(groups_of(sizes), updates, np.random.default_rng(seed))
    if len(sizes) >= updates:  # whole groups
        counts = [len(batch) for batch in batches]
        assert all(len(p.rows) == sizes[p.group] for batch in batches for p in batch)
    else:
        counts = [len(flat(batch)) for batch in batches]
    assert max(counts) - min(counts) <= 1


def test_the_generator_alone_decides():
    def deal(seed):
        return mini_batches(groups_of([4] * 12), 4, np.random.default_rng(seed))

    assert deal(1) == deal(1) and deal(1) != deal(2)


def test_fewer_rollouts_than_updates_are_refused():
    with pytest.raises(ValueError, match="3 rollouts cannot make 4"):
        mini_batches(groups_of([2, 1]), 4, np.random.default_rng(0))


@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, -0.5]), min_size=1), min_size=1))
def test_rollouts_without_advantage_are_left_out(values):
    firsts = np.cumsum([0, *map(len, values)]).tolist()
    pieces = [Piece(g, tuple(range(len(v))), firsts[g]) for g, v in enumerate(values)]
    advantages = np.array([a for v in values for a in v])
    kept = with_gradient(pieces, advantages)
    assert flat(kept) == np.flatnonzero(advantages).tolist()
    assert all(piece.rows for piece in kept)


def padded(batch, prompt_tokens, response_tokens, share):
    """Tokens of the padded tensors a micro-batch runs as."""
    rows = sum(len(p.rows) for p in batch)
    prompts = len(batch) if share else rows
    widest = max(prompt_tokens[p.group] for p in batch)
    return prompts * widest + rows * max(response_tokens[i] for i in flat(batch))


@given(
    st.lists(
        st.tuples(st.integers(1, 80), st.lists(st.integers(1, 60), min_size=1, max_size=9)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 600),
    st.booleans(),
)
def test_micro_batches_keep_to_the_budget_and_hold_each_row_once(groups, budget, share):
    prompt_tokens = [p for p, _ in groups]
    response_tokens = [r for _, rs in groups for r in rs]
    firsts = np.cumsum([0, *(len(rs) for _, rs in groups)]).tolist()
    pieces = [Piece(g, tuple(range(len(rs))), firsts[g]) for g, (_, rs) in enumerate(groups)]
    batches = micro_batches(pieces, prompt_tokens, response_tokens, budget, share)
    assert Counter(flat(p for batch in batches for p in batch)) == Counter(
        range(len(response_tokens))
    )
    for batch in batches:
        if len(flat(batch)) > 1:
            assert padded(batch, prompt_tokens, response_tokens, share) <= budget
    if padded(pieces, prompt_tokens, response_tokens, share) <= budget:
        assert len(batches) == 1


def test_no_pieces_make_no_micro_batches():
    assert micro_batches([], [3], [2], 10, True) == []


def test_long_prompts_stay_apart_where_padding_would_cost_more():
    pieces = [Piece(g, (0, 1), 2 * g) for g in range(6)]
    prompts, responses = [40, 300, 41, 310, 42, 43], [5] * 12

    def batches(share, batch_tokens):
        made = micro_batches(pieces, prompts, responses, 10_000, share, batch_tokens)
        return [sorted(p.group for p in batch) for batch in made]

    assert batches(True, 512) == [[0, 2, 4, 5], [1, 3]]  # 4 x 260 tokens of padding saved
    assert batches(True, 2_000) == [[0, 1, 2, 3, 4, 5]]
    assert batches(False, 512) == [[0, 1, 2, 3, 4, 5]]  # a row of its own for every rollout


def test_the_budget_holds_within_a_class_of_prompts():
    pieces = [Piece(g, (0,), g) for g in range(8)]
    prompts = [10] * 4 + [500] * 4
    made = micro_batches(pieces, prompts, [10] * 8, 1_100, True, 64)
    assert [[p.group for p in batch] for batch in made] == [[0, 1, 2, 3], [4, 5], [6, 7]]


def test_prompts_that_are_not_padded_count_with_their_own_length():
    pieces = [Piece(g, (0, 1), 2 * g) for g in range(4)]
    prompts, responses = [10, 10, 100, 10], [5] * 8
    assert len(micro_batches(pieces, prompts, responses, 170, True, 0, pad_prompts=False)) == 1
    assert len(micro_batches(pieces, prompts, responses, 170, True)) > 1
