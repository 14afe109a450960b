"""Where the tokens of a flat pass stand."""

from __future__ import annotations

import numpy as np
import torch

from zppo.student.flat import FlatPass, FlatRows

# Five responses: of 2, 5, 0, 1 and 4 tokens; to prompts 0, 0, 1, 2, 2.
LENGTHS, OWNER = [2, 5, 0, 1, 4], [0, 0, 1, 2, 2]


def rows(classes):
    return FlatRows(classes, LENGTHS, OWNER, torch.device("cpu"))


def test_blocks_stand_one_after_the_other():
    flat = rows([[2], [0, 3], [1, 4]])
    blocks = [(b.members, b.length, b.start) for b in flat.blocks]
    assert blocks == [((0, 3), 2, 0), ((1, 4), 5, 4)]  # a class without tokens is left out
    assert flat.N == 14 and flat.starts == [0, 4, 0, 2, 9]
    assert flat.steps.tolist() == [0, 1, 0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert flat.owner.tolist() == [0] * 2 + [2] * 2 + [0] * 5 + [2] * 5
    assert flat.blocks[1].tokens == slice(4, 14) and flat.blocks[1].rows == 2


def passed(sizes, classes=((0, 3), (1, 4), (2,))):
    return FlatPass(sizes, classes, LENGTHS, OWNER, torch.device("cpu"))


def test_prompts_come_first_and_have_no_padding():
    flat = passed([3, 3, 5])
    assert flat.prompts.N == 11 and flat.ends == [3, 6, 11]
    blocks = [(b.members, b.length, b.start) for b in flat.blocks]
    assert blocks == [((0, 1), 3, 0), ((2,), 5, 6), ((0, 3), 2, 11), ((1, 4), 5, 15)]
    assert flat.last(4).view(3, 4).tolist() == [[11, 0, 1, 2], [11, 3, 4, 5], [7, 8, 9, 10]]


def test_each_token_has_a_place_in_the_grid_of_its_prompt(monkeypatch):
    monkeypatch.setattr("zppo.student.flat.GRID_TOKENS", 1)
    flat = passed([3, 4, 5])
    # Prompt 1 has no token that attends to it.
    assert [g.keys.tolist() for g in flat.grids] == [[[0, 1, 2]], [[7, 8, 9, 10, 11]]]
    assert all(g.bias is None and g.vacant is None for g in flat.grids)
    where = torch.cat([g.queries.flatten() for g in flat.grids])
    assert where[flat.places].tolist() == list(range(flat.responses.N))
    assert flat.responses.owner[where].tolist() == [0] * 7 + [2] * 7


def test_grids_say_what_is_missing(monkeypatch):
    monkeypatch.setattr("zppo.student.flat.GRID_TOKENS", 1_000)
    flat = passed([3, 4, 5], ((0,), (1,), (2,), (3,), (4,)))
    [grid] = flat.grids
    assert grid.keys.tolist() == [[0, 1, 2, 0, 0], [7, 8, 9, 10, 11]]
    assert grid.bias is not None and grid.bias.shape == (2, 1, 1, 5)
    assert grid.bias.isinf()[:, 0, 0].tolist() == [[False] * 3 + [True] * 2, [False] * 5]
    assert grid.vacant is not None and grid.vacant.tolist() == [
        [False] * 7,
        [False] * 5 + [True] * 2,
    ]
    assert grid.queries.flatten()[flat.places].tolist() == list(range(flat.responses.N))
    alone = FlatPass([3], [[0, 1]], [0, 0], [0, 0], torch.device("cpu"))
    assert alone.grids == [] and len(alone.places) == 0 and alone.prompts.N == 3


def test_chunks_of_responses():
    flat = rows([[2], [0, 3], [1, 4]])
    chunks = flat.chunks(2)
    # Longest first: responses 1 (3 chunks), 4 (2), 0 and 3 (1 each); 2 has none.
    assert chunks.counts == [4, 2, 1]
    assert chunks.owner.tolist() == [0, 2, 0, 2]
    assert chunks.previous.tolist() == [0, 1, 4]
    none = flat.N
    assert chunks.tokens.view(-1, 2).tolist() == [
        [4, 5], [9, 10], [0, 1], [2, none],
        [6, 7], [11, 12],
        [8, none],
    ]  # fmt: skip
    real = chunks.tokens < none
    assert torch.equal(chunks.missing, ~real.view(-1, 2))
    assert torch.equal(chunks.places[chunks.tokens[real]], torch.arange(14)[real])
    padding = np.setdiff1d(np.arange(none), chunks.tokens.numpy())
    assert padding.tolist() == [3, 13]  # the second column of response 3, the last of response 4
    assert chunks.places[padding].tolist() == [len(chunks.tokens)] * 2


def test_chunks_are_made_once():
    flat = rows([[0, 1, 2, 3, 4]])
    assert flat.chunks(16) is flat.chunks(16)
