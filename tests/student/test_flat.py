"""Where the tokens of a flat pass stand."""

from __future__ import annotations

import numpy as np
import torch

from zppo.student.flat import FlatRows

# Five responses: of 2, 5, 0, 1 and 4 tokens; to prompts 0, 0, 1, 2, 2.
LENGTHS, OWNER = [2, 5, 0, 1, 4], [0, 0, 1, 2, 2]


def rows(classes):
    return FlatRows(classes, LENGTHS, OWNER, 3, torch.device("cpu"))


def test_blocks_stand_one_after_the_other():
    flat = rows([[2], [0, 3], [1, 4]])
    blocks = [(b.responses, b.length, b.start) for b in flat.blocks]
    assert blocks == [((0, 3), 2, 0), ((1, 4), 5, 4)]  # a class without tokens is left out
    assert flat.N == 14 and flat.starts == [0, 4, 0, 2, 9]
    assert flat.steps.tolist() == [0, 1, 0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert flat.owner.tolist() == [0] * 2 + [2] * 2 + [0] * 5 + [2] * 5
    assert flat.blocks[1].tokens == slice(4, 14) and flat.blocks[1].rows == 2


def test_each_token_has_a_place_at_its_prompt():
    flat = rows([[0, 3], [1, 4], [2]])
    assert flat.by_prompt.shape == (3, 7)
    assert flat.by_prompt.flatten()[flat.places].tolist() == list(range(flat.N))
    assert (flat.places // 7).tolist() == flat.owner.tolist()
    assert flat.vacant is not None
    assert flat.vacant.sum(-1).tolist() == [0, 7, 0]  # prompt 1 has no token to attend to it
    alike = FlatRows([[0, 1]], [3, 3], [0, 1], 2, torch.device("cpu"))
    assert alike.vacant is None


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
    assert torch.equal(chunks.places[chunks.tokens[real]], torch.arange(14)[real])
    padding = np.setdiff1d(np.arange(none), chunks.tokens.numpy())
    assert padding.tolist() == [3, 13]  # the second column of response 3, the last of response 4
    assert chunks.places[padding].tolist() == [len(chunks.tokens)] * 2


def test_chunks_are_made_once():
    flat = rows([[0, 1, 2, 3, 4]])
    assert flat.chunks(16) is flat.chunks(16)
