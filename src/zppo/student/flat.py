"""Prompts and responses of different lengths side by side in one pass over the layers.

What a layer computes position by position (norms, products, the MLP) does not care which sequence
a token belongs to, so all tokens of B prompts, each once, and then of their R responses pass as one
row. Sequences of like length stand together as a block, padded to one length, so that attention
can look at a block as at a batch. Attention of responses to prompts looks at all tokens of a
prompt's responses as at one sequence, the delta rule at chunks of sequences; where the tokens
stand for these two is said here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from zppo.student.batching import length_classes

#: What one more grid costs, in columns of a prompt (an estimate).
GRID_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Block:
    """Some sequences, by their index, padded to one length; its tokens stand from `start` on."""

    members: tuple[int, ...]
    length: int
    start: int

    @property
    def rows(self) -> int:
        return len(self.members)

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.start + self.rows * self.length)


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """M chunks of sequences, first all first chunks, then all second ones, ...; of those of one
    place in their sequence, the longest sequences' come first.

    counts    how many sequences have a first chunk, a second, ...; sums up to M
    owner     (R,) the prompt of each sequence that has a first chunk, in their order
    previous  (M - R,) the chunk before each that is not a first one
    tokens    (M * L,) the token at each place, N where there is none
    places    (N,) the place of each token, M * L for padding
    missing   (M, L), True where there is no token
    """

    counts: list[int]
    owner: Tensor
    previous: Tensor
    tokens: Tensor
    places: Tensor
    missing: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Some prompts as a batch of b, padded to one length, and as many queries for each.

    keys      (b, P) tokens of the prompts; any token where there is none
    bias      (b, 1, 1, P), -inf where there is none; None if none is missing
    queries   (b, W) tokens of the prompts' responses; any token where `vacant`
    vacant    (b, W), True where a prompt has fewer than another; None if none has
    """

    keys: Tensor
    bias: Tensor | None
    queries: Tensor
    vacant: Tensor | None


class FlatRows:
    """How the tokens of R sequences stand in a row of N.

    blocks     in the order of their tokens
    starts     where each sequence's tokens begin; 0 for one without tokens
    steps      (N,) the place of each token in its sequence
    owner      (N,) the prompt of each token
    """

    def __init__(
        self,
        classes: Sequence[Sequence[int]],
        lengths: Sequence[int],
        owner: Sequence[int],
        device: torch.device,
    ):
        """From `classes` of sequences that are padded together, and each one's number of tokens
        and prompt. A class without tokens is left out."""
        self.device, self.lengths, self.prompt = device, lengths, owner
        self.blocks: list[Block] = []
        self.starts = [0] * len(lengths)
        self.N = 0
        for members in classes:
            length = max(lengths[r] for r in members)
            if length:
                self.blocks.append(Block(tuple(members), length, self.N))
                for r in members:
                    self.starts[r] = self.N
                    self.N += length
        owners = np.zeros(self.N, int)
        steps = np.zeros(self.N, int)
        for block in self.blocks:
            owners[block.tokens] = np.repeat([owner[r] for r in block.members], block.length)
            steps[block.tokens] = np.tile(np.arange(block.length), block.rows)
        self.steps, self.owner = _tensor(steps, device), _tensor(owners, device)
        self._chunks: dict[int, Chunks] = {}

    def chunks(self, size: int) -> Chunks:
        """Each sequence cut into chunks of `size` tokens; made once, for all layers."""
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
        index = (owner, previous[counts[0] :], flat, places[:-1], tokens == self.N)
        return Chunks(counts, *(_tensor(x, self.device) for x in index))


class FlatPass:
    """One row: the tokens of B prompts, no two of different length in a block and so without
    padding, then those of their responses.

    prompts       how the former stand
    responses     how the latter do, counted from the first of them
    ends          behind the last token of each prompt
    blocks        of all tokens
    grids         for attention of the responses to the prompts; only prompts that have some
    places        (N,) where each token of the responses stands in the grids' queries, one grid
                  after the other
    """

    def __init__(
        self,
        sizes: Sequence[int],
        classes: Sequence[Sequence[int]],
        lengths: Sequence[int],
        owner: Sequence[int],
        device: torch.device,
    ):
        """From each prompt's number of tokens, in ascending order, and `FlatRows`'s arguments for
        the responses."""
        alike = [[i for i, size in enumerate(sizes) if size == x] for x in sorted(set(sizes))]
        self.prompts = FlatRows(alike, sizes, range(len(sizes)), device)
        self.responses = FlatRows(classes, lengths, owner, device)
        self.ends = [a + n for a, n in zip(self.prompts.starts, sizes, strict=True)]
        start = self.prompts.N
        self.blocks = [
            *self.prompts.blocks,
            *(replace(b, start=b.start + start) for b in self.responses.blocks),
        ]
        self.grids, self.places = self._gridded(device)

    def last(self, n: int) -> Tensor:
        """(B * n,) the last `n` tokens of each prompt; where it is shorter, the number of all
        prompts' tokens."""
        index = np.array(self.ends)[:, None] + np.arange(-n, 0)
        index[index < np.array(self.prompts.starts)[:, None]] = self.prompts.N
        return _tensor(index.flatten(), self.places.device)

    def _gridded(self, device: torch.device) -> tuple[list[Grid], Tensor]:
        owners, sizes = self.responses.owner.cpu().numpy(), np.array(self.prompts.lengths)
        of_prompt = np.argsort(owners, kind="stable")  # tokens, prompt by prompt
        count = np.bincount(owners, minlength=len(sizes))
        first = count.cumsum() - count
        used = np.flatnonzero(count)
        grids: list[Grid] = []
        places, before = np.zeros(self.responses.N, int), 0
        for chosen in length_classes(sizes[used].tolist(), GRID_TOKENS):
            some = used[chosen]
            columns = np.arange(sizes[some].max())
            missing = columns >= sizes[some][:, None]
            keys = np.where(missing, 0, np.array(self.prompts.starts)[some][:, None] + columns)
            steps = np.arange(count[some].max())
            vacant = steps >= count[some][:, None]
            queries = of_prompt[np.where(vacant, 0, first[some][:, None] + steps)]
            places[queries[~vacant]] = before + np.flatnonzero(~vacant)
            before += vacant.size
            bias = np.where(missing, -np.inf, 0.0).astype(np.float32)[:, None, None]
            grids.append(
                Grid(
                    _tensor(keys, device),
                    _tensor(bias, device) if missing.any() else None,
                    _tensor(queries, device),
                    _tensor(vacant, device) if vacant.any() else None,
                )
            )
        return grids, _tensor(places, device)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
