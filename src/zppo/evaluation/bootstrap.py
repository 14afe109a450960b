"""How sure a difference of two methods is, given the benchmarks (or questions) it was seen on.

The paired cluster bootstrap of the paper: the clusters are drawn anew with replacement, both
methods on the same ones, and the 2.5th and 97.5th percentile of the mean difference bound the
interval. It speaks about other benchmarks or questions of the kind, not about other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Cluster draws held at once, so that a bootstrap over many questions stays small.
_CHUNK = 2**22


@dataclass(frozen=True, slots=True)
class Delta:
    """Mean of a - b with its 95% interval, in the unit of the scores, and the number of clusters on
    which a is above, equal to and below b."""

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


def paired_cluster_bootstrap(
    scores_a: Sequence[float] | np.ndarray,
    scores_b: Sequence[float] | np.ndarray,
    resamples: int = 10_000,
    seed: int = 0,
) -> Delta:
    """The difference a - b over clusters: (C,) scores each, the same cluster at the same index.

    Raises `ValueError` for different lengths, no cluster, or a score that is not a number.
    """
    return shared_resample(
        np.asarray(scores_a, float)[:, None],
        np.asarray(scores_b, float)[:, None],
        resamples,
        seed,
    )[0]


def shared_resample(
    scores_a: Sequence[Sequence[float]] | np.ndarray,
    scores_b: Sequence[Sequence[float]] | np.ndarray,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Delta]:
    """One `Delta` a column of (C, K) scores. Every resample draws its clusters once for all K
    columns (scales, methods), as the paper does, so that the columns can be set against each other.

    Raises `ValueError` as `paired_cluster_bootstrap` does.
    """
    a, b = np.asarray(scores_a, float), np.asarray(scores_b, float)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"both need the same clusters: shapes {a.shape} and {b.shape}")
    if not len(a):
        raise ValueError("there is no cluster to draw from")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("every score must be a finite number")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples!r}")
    difference = a - b
    low, high = np.percentile(_means(difference, resamples, seed), [2.5, 97.5], axis=0)
    return [
        Delta(
            mean=float(difference[:, k].mean()),
            low=float(low[k]),
            high=float(high[k]),
            wins=int((difference[:, k] > 0).sum()),
            ties=int((difference[:, k] == 0).sum()),
            losses=int((difference[:, k] < 0).sum()),
        )
        for k in range(a.shape[1])
    ]


def _means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples, K) means of (C, K) values over clusters drawn with replacement."""
    rng, count = np.random.default_rng(seed), len(values)
    rows = max(1, _CHUNK // count)
    return np.concatenate(
        [
            values[rng.integers(count, size=(min(rows, resamples - start), count))].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )
