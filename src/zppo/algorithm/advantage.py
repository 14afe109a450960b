"""The two-step advantage estimator (method section 3; equations 2 and 3 of the paper)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Normalize = Literal["none", "nonzero", "all"]


def two_step_advantages(
    rewards: ArrayLike,
    group_ids: ArrayLike,
    normalize: Normalize = "nonzero",
    eps: float = 1e-6,
) -> NDArray[np.float64]:
    """Advantages of a step's rollouts, shape (N,), float64, in the order given.

    Step 1, a group (eq. 2): A'_i = r_i - mean of the rewards of i's group.
    Step 2, the batch (eq. 3): A_i = (A'_i - mu_S) / (sigma_S + eps), population moments over the
    rollouts of the groups S. `nonzero` (the method): S holds the groups whose rewards differ.
    `all` (ablation `with_zero`): S holds every group; with f the share of rollouts in non-trivial
    groups and eps = 0, each advantage is 1/sqrt(f) times that of `nonzero`. `none` (ablation):
    step 2 is left out.

    A group whose rewards are all equal is trivial; its advantages are exactly 0 in every mode.

    Args:
        rewards: (N,) finite numbers.
        group_ids: (N,) labels (integers or text); equal label, same group, in any order.
        normalize: the S of step 2.
        eps: added to sigma, in units of reward; at least 0.

    Raises `ValueError` naming the argument that is at fault.
    """
    r = _as_rewards(rewards)
    group = _as_group_index(group_ids, len(r))
    if normalize not in get_args(Normalize):
        raise ValueError(f"normalize must be one of {get_args(Normalize)}, not {normalize!r}")
    if not (np.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be finite and at least 0, not {eps!r}")
    if not len(r):
        return r

    size = np.bincount(group)
    mixed = _has_unequal(r, group, len(size))[group]
    mean = np.bincount(group, weights=r) / size
    # `where`: the mean of equal rewards may round (three times 0.1 is not 0.3), zero must not.
    centred = np.where(mixed, r - mean[group], 0.0)
    if normalize == "none" or not mixed.any():
        return centred

    batch = centred if normalize == "all" else centred[mixed]
    # mu_S is 0 by construction, every group of S being centred on its own mean. Subtracting its
    # rounding error instead would hand trivial groups a tiny advantage and a useless update.
    sigma = np.sqrt(np.mean(np.square(batch)))
    return centred / (sigma + eps)


def _has_unequal(r: NDArray[np.float64], group: NDArray[np.intp], groups: int) -> NDArray[np.bool_]:
    """(groups,) whether a group's rewards differ: compared as they are, since a floating-point
    standard deviation of equal rewards need not be 0."""
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, group, r)
    np.maximum.at(high, group, r)
    return low < high


def _as_rewards(rewards: ArrayLike) -> NDArray[np.float64]:
    try:
        r = np.array(rewards, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("rewards must be numbers, one a rollout") from None
    if r.ndim != 1:
        raise ValueError(f"rewards must have shape (N,), not {r.shape}")
    if not np.isfinite(r).all():
        where = int(np.flatnonzero(~np.isfinite(r))[0])
        raise ValueError(f"rewards must be finite; rewards[{where}] is {r[where]}")
    return r


def _as_group_index(group_ids: ArrayLike, n: int) -> NDArray[np.intp]:
    """(N,) index of each rollout's group, 0 to the number of groups - 1."""
    try:
        ids: NDArray[Any] = np.asarray(group_ids)
    except ValueError:
        raise ValueError("group_ids must be labels, one a rollout") from None
    if ids.shape != (n,):
        raise ValueError(f"group_ids must have the shape of rewards, ({n},), not {ids.shape}")
    if ids.dtype.kind == "f" and np.isnan(ids).any():
        raise ValueError("group_ids must not be NaN")
    try:
        return np.unique(ids, return_inverse=True)[1].astype(np.intp)
    except TypeError:
        raise ValueError("group_ids must be labels of one kind: integers or text") from None
