"""The order in which training visits the questions.

The position in the data is a pure function of (seed, step, size): a resumed run needs no state to
continue exactly where it stopped.
"""

from __future__ import annotations

import math

import numpy as np


class PromptOrder:
    """Seeded passes over `n` questions, each pass (epoch) visiting every question once.

    A batch may span the end of one epoch and the start of the next. Where the two would repeat a
    question within the batch, the next epoch visits that question later instead, so no batch holds
    a question twice unless it is larger than the data. `size` is |X_new| of Algorithm 1.
    """

    def __init__(self, n: int, seed: int) -> None:
        """`n` questions, `n >= 1`; `seed >= 0`. Raises `ValueError` otherwise."""
        if n < 1 or seed < 0:
            raise ValueError(f"PromptOrder needs n >= 1 and seed >= 0, got n={n}, seed={seed}")
        self.n = n
        self.seed = seed

    def batch(self, step: int, size: int) -> list[int]:
        """Indices of the `size` questions of `step`, which counts from 0."""
        if step < 0 or size < 1:
            raise ValueError(f"batch needs step >= 0 and size >= 1, got {step} and {size}")
        start, stop = step * size, (step + 1) * size
        indices: list[int] = []
        for epoch in range(start // self.n, (stop - 1) // self.n + 1):
            first = epoch * self.n
            order = self._order(epoch, size)
            indices += order[max(start - first, 0) : stop - first].tolist()
        return indices

    def epoch(self, step: int, size: int) -> float:
        """Passes over the data completed once `step` is done, as a fraction."""
        return (step + 1) * size / self.n

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.n)

    def _order(self, epoch: int, size: int) -> np.ndarray:
        """(n,) the questions in the order this epoch visits them.

        An epoch depends on the one before it through the batch they share. That chain is short:
        resolving a clash moves nothing beyond the first `size` places, so with n >= 2 * size the
        end of an epoch is as shuffled; and an epoch that starts with a batch depends on nothing.
        """
        if size > self.n:
            return self._shuffled(epoch)
        aligned = epoch - epoch % (size // math.gcd(size, self.n))
        first = max(aligned, epoch - 1) if self.n >= 2 * size else aligned
        order = self._shuffled(first)
        for later in range(first + 1, epoch + 1):
            shared = later * self.n % size  # places of the common batch in the epoch before
            order = _clash_free(self._shuffled(later), order[self.n - shared :], size - shared)
        return order


def _clash_free(order: np.ndarray, before: np.ndarray, head: int) -> np.ndarray:
    """`order` with its first `head` places free of `before`; otherwise in the order it had."""
    fresh = np.flatnonzero(~np.isin(order, before))[:head]
    return np.concatenate([order[fresh], np.delete(order, fresh)])
