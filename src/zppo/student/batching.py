"""Which rollouts go into which mini-batch and micro-batch of an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zppo.types import Group


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rollouts of one group that run together: `rows` index into `group.rollouts`,
    `first` is the flat index of the group's first rollout in the step."""

    group: int
    rows: tuple[int, ...]
    first: int

    @property
    def flat(self) -> list[int]:
        """Positions of the rows in the step's flat order of rollouts."""
        return [self.first + r for r in self.rows]


def mini_batches(
    groups: Sequence[Group], updates: int, rng: np.random.Generator
) -> list[list[Piece]]:
    """Split a step's rollouts into exactly `updates` mini-batches of nearly equal size.

    Groups are shuffled and stay whole while there is at least one for each update; otherwise
    single rollouts are dealt out, so any number of groups works. Raises `ValueError` when there
    are fewer rollouts than updates.
    """
    firsts = np.concatenate([[0], np.cumsum([len(g.rollouts) for g in groups])]).astype(int)
    if firsts[-1] < updates:
        raise ValueError(f"{firsts[-1]} rollouts cannot make {updates} mini-batches")
    if len(groups) >= updates:
        order = rng.permutation(len(groups))
        return [
            [Piece(int(g), tuple(range(len(groups[g].rollouts))), int(firsts[g])) for g in part]
            for part in np.array_split(order, updates)
        ]
    owner = np.repeat(np.arange(len(groups)), np.diff(firsts))
    batches: list[list[Piece]] = []
    for part in np.array_split(rng.permutation(len(owner)), updates):
        pieces = []
        for g in np.unique(owner[part]):
            rows = sorted(int(i) - int(firsts[g]) for i in part[owner[part] == g])
            pieces.append(Piece(int(g), tuple(rows), int(firsts[g])))
        batches.append(pieces)
    return batches


def with_gradient(pieces: Sequence[Piece], advantages: np.ndarray) -> list[Piece]:
    """Leave out rollouts whose advantage is exactly zero: with no KL and no entropy term they add
    nothing to the gradient. Their tokens stay in the denominator, which the caller takes from the
    whole mini-batch."""
    kept = (
        Piece(p.group, tuple(r for r in p.rows if advantages[p.first + r] != 0.0), p.first)
        for p in pieces
    )
    return [p for p in kept if p.rows]


def micro_batches(
    pieces: Sequence[Piece],
    prompt_tokens: Sequence[int],
    response_tokens: Sequence[int],
    budget: int,
    share_prompt: bool,
    batch_tokens: int = 0,
    pad_prompts: bool = True,
) -> list[list[Piece]]:
    """Pack pieces under a budget of padded tokens.

    `prompt_tokens` has one entry a group, `response_tokens` one a rollout (flat order). A prompt
    counts once a piece when it is shared, once a row otherwise, and as long as the longest, unless
    prompts are not padded to each other (`pad_prompts`). A piece over the budget is split by rows;
    a single row over the budget runs alone. Pieces whose prompts are of very different length (a
    plain question, a reformulated one) stay apart, where padding the shorter ones would cost more
    than another micro-batch, which is taken to cost `batch_tokens`.
    """
    if share_prompt and batch_tokens and pieces:
        classes = length_classes([prompt_tokens[p.group] for p in pieces], batch_tokens)
        return [
            batch
            for chosen in classes
            for batch in micro_batches(
                [pieces[i] for i in chosen], prompt_tokens, response_tokens, budget, share_prompt
            )
        ]

    def cost(batch: Sequence[Piece]) -> int:
        rows = sum(len(p.rows) for p in batch)
        response = max(response_tokens[i] for p in batch for i in p.flat)
        prompts = [prompt_tokens[p.group] for p in batch]
        if not pad_prompts:
            return sum(prompts) + response * rows
        return max(prompts) * (len(batch) if share_prompt else rows) + response * rows

    fitting: list[Piece] = []
    for piece in pieces:
        # Rows of like length together, so that a split piece pads little.
        rows = sorted(piece.rows, key=lambda r: response_tokens[piece.first + r])
        start = 0
        for end in range(1, len(rows) + 1):
            if (
                end - start > 1
                and cost([Piece(piece.group, tuple(rows[start:end]), piece.first)]) > budget
            ):
                fitting.append(Piece(piece.group, tuple(rows[start : end - 1]), piece.first))
                start = end - 1
        fitting.append(Piece(piece.group, tuple(rows[start:]), piece.first))

    fitting.sort(key=lambda p: (max(response_tokens[i] for i in p.flat), prompt_tokens[p.group]))
    batches: list[list[Piece]] = []
    for piece in fitting:
        if batches and cost([*batches[-1], piece]) <= budget:
            batches[-1].append(piece)
        else:
            batches.append([piece])
    return batches


def length_classes(lengths: Sequence[int], pass_tokens: int) -> list[list[int]]:
    """What runs together, so that short rows are not padded to the longest: the classes, as indices
    in ascending order, whose padded tokens are fewest when a pass of its own costs `pass_tokens`
    more."""
    order = np.argsort(lengths, kind="stable")
    ascending = np.asarray(lengths)[order]
    n = len(order)
    best, cut = np.zeros(n + 1), np.zeros(n + 1, dtype=int)
    for end in range(1, n + 1):  # the cheapest way to run the `end` shortest
        starts = np.arange(end)
        cost = best[:end] + (end - starts) * ascending[end - 1]
        cut[end] = int(cost.argmin())
        best[end] = cost[cut[end]] + pass_tokens
    classes: list[list[int]] = []
    end = n
    while end > 0:
        classes.append(sorted(order[cut[end] : end].tolist()))
        end = cut[end]
    return classes[::-1]
