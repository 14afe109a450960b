"""Ragged lengths, the same on both sides: each response is told when to end.

Left to themselves both sides would draw lengths from one distribution, but a few dozen draws of
it differ by a third in their sum. So the worker of each side stands between its sampler and the
drawn tokens: stop tokens have probability zero until a response is as long as it shall be, then
it gets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: Shares of the limit, one a response of a group of eight; two run into the limit.
SHARES = (0.125, 0.1875, 0.3125, 0.4375, 0.625, 0.8125, 1.0, 1.0)


class Schedule:
    """Knows which response each row of the sampler's batch is, and where it ends.

    Responses of a group follow one another in the first batch of rows; later a sampler may take
    out the rows that have ended, all of them at once. A response of every group runs into the
    limit, so a batch is over after `limit` draws.
    """

    def __init__(self, limit: int, stop_ids: Sequence[int]):
        self.limit = limit
        self.lengths = torch.tensor([max(1, round(share * limit)) for share in SHARES])
        self.stops = torch.tensor(sorted(stop_ids))
        self.draws = 0

    def forbid(self, scores: Tensor, nothing: float) -> None:
        """Before a draw from (N, V) `scores`, in place: no row stops by chance."""
        scores[:, self.stops] = nothing

    def end(self, token: Tensor) -> Tensor:
        """After a draw of `token` (N,): a stop token where a response is as long as it shall be."""
        if self.draws == 0:
            self.rows = torch.arange(len(token))
            self.ended = torch.zeros(len(token), dtype=torch.bool)
        elif len(token) < len(self.rows):
            self.rows, self.ended = self.rows[~self.ended], self.ended[~self.ended]
        if len(token) != len(self.rows):
            raise RuntimeError(f"{len(token)} rows in the batch, expected {len(self.rows)}")
        self.draws = (self.draws + 1) % self.limit
        if self.draws == 0:
            return token
        now = self.lengths[self.rows % len(SHARES)] == self.draws
        self.ended |= now
        return torch.where(now, self.stops[0], token)


def control_generate(schedule: Schedule) -> None:
    """Put `schedule` between transformers' `generate` and its draws."""
    draw = torch.multinomial

    def controlled(probs: Tensor, *rest: Any, **named: Any) -> Tensor:
        schedule.forbid(probs, 0.0)
        return schedule.end(draw(probs, *rest, **named)[:, 0])[:, None]

    torch.multinomial = controlled
