"""Responses of different lengths side by side in one pass over the layers.

What a layer computes position by position (norms, products, the MLP) does not care which response
a token belongs to, so the N tokens of all responses pass as one row, (1, N, H). Responses of like
length stand together as a block, padded to one length, so that attention can look at a block as at
a batch. Attention to the prompts looks at all tokens of a prompt's responses as at one sequence,
the delta rule at chunks of responses; where the tokens stand for these two is said here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Block:
    """Some responses, by their index, padded to one length; its tokens stand from `start` on."""

    responses: tuple[int, ...]
    length: int
    start: int

    @property
    def rows(self) -> int:
        return len(self.responses)

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.start + self.rows * self.length)


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """M chunks of responses, first all first chunks, then all second ones, ...; of those of one
    place in their response, the longest responses' come first.

    counts    how many responses have a first chunk, a second, ...; sums up to M
    owner     (R,) the prompt of each response that has a first chunk, in their order
    previous  (M - R,) the chunk before each that is not a first one
    tokens    (M * L,) the token at each place, N where there is none
    places    (N,) the place of each token, M * L for padding
    """

    counts: list[int]
    owner: Tensor
    previous: Tensor
    tokens: Tensor
    places: Tensor


class FlatRows:
    """How the tokens of R responses to B prompts stand in a flat pass of N.

    blocks     in the order of their tokens
    starts     where each response's tokens begin; 0 for one without tokens
    steps      (N,) the place of each token in its response
    owner      (N,) the prompt of each token
    by_prompt  (B, W) the tokens of each prompt's responses; any token where `vacant`
    places     (N,) where each token stands in `by_prompt`, seen as flat
    vacant     (B, W), True where a prompt has fewer tokens than another; None if none has
    """

    def __init__(
        self,
        classes: Sequence[Sequence[int]],
        lengths: Sequence[int],
        owner: Sequence[int],
        prompts: int,
        device: torch.device,
    ):
        """From `classes` of responses that are padded together, and each response's number of
        tokens and prompt. A class without tokens is left out."""
        self.device, self.lengths, self.prompt = device, lengths, owner
        self.blocks: list[Block] = []
        self.starts = [0] * len(lengths)
        self.N = 0
        for rows in classes:
            length = max(lengths[r] for r in rows)
            if length:
                self.blocks.append(Block(tuple(rows), length, self.N))
                for r in rows:
                    self.starts[r] = self.N
                    self.N += length
        owners = np.zeros(self.N, int)
        steps = np.zeros(self.N, int)
        for block in self.blocks:
            owners[block.tokens] = np.repeat([owner[r] for r in block.responses], block.length)
            steps[block.tokens] = np.tile(np.arange(block.length), block.rows)

        count = np.bincount(owners, minlength=prompts)
        width = int(count.max())
        by_owner = np.argsort(owners, kind="stable")
        column = np.arange(self.N) - (count.cumsum() - count)[owners[by_owner]]
        places, by_prompt = np.zeros(self.N, int), np.zeros((prompts, width), int)
        places[by_owner] = owners[by_owner] * width + column
        by_prompt.reshape(-1)[places] = np.arange(self.N)
        vacant = np.arange(width) >= count[:, None]

        self.steps, self.owner = self._on_device(steps), self._on_device(owners)
        self.by_prompt, self.places = self._on_device(by_prompt), self._on_device(places)
        self.vacant = self._on_device(vacant) if vacant.any() else None
        self._chunks: dict[int, Chunks] = {}

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def chunks(self, size: int) -> Chunks:
        """Each response cut into chunks of `size` tokens; made once, for all layers."""
        if size not in self._chunks:
            self._chunks[size] = self._cut(size)
        return self._chunks[size]

    def _cut(self, size: int) -> Chunks:
        number = [-(-n // size) for n in self.lengths]
        rows = sorted(range(len(number)), key=lambda r: -number[r])
        counts = [sum(n > i for n in number) for i in range(max(number))]
        tokens = np.full((sum(counts), size), self.N)
        previous = np.zeros(len(tokens), int)
        first = 0
        for i, n in enumerate(counts):
            at = np.arange(i * size, (i + 1) * size)
            starts, lengths = (
                np.array([x[r] for r in rows[:n]]) for x in (self.starts, self.lengths)
            )
            tokens[first : first + n] = np.where(
                at < lengths[:, None], starts[:, None] + at, self.N
            )
            previous[first : first + n] = np.arange(n) + first - counts[max(i - 1, 0)]
            first += n
        flat = tokens.reshape(-1)
        places = np.full(self.N + 1, len(flat))
        places[flat] = np.arange(len(flat))
        owner = np.array([self.prompt[r] for r in rows[: counts[0]]])
        index = (owner, previous[counts[0] :], flat, places[:-1])
        return Chunks(counts, *(self._on_device(x) for x in index))
