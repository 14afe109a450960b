"""Equations 2 and 3 worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zppo.algorithm.advantage import two_step_advantages

# Four groups of four rollouts. Group means: a 1/4, b 2/4, c 0, d 1.
REWARDS = [*[1, 0, 0, 0], *[1, 1, 0, 0], *[0, 0, 0, 0], *[1, 1, 1, 1]]
GROUPS = ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["d"] * 4
# Step 1: A' = r - mean.
CENTRED = [*[0.75, -0.25, -0.25, -0.25], *[0.5, 0.5, -0.5, -0.5], *[0.0] * 8]
# Sum of squares: 0.75^2 + 3 * 0.25^2 = 0.75 in a, 4 * 0.5^2 = 1 in b; 7/4 together.


def test_none_stops_after_the_group_baseline():
    assert two_step_advantages(REWARDS, GROUPS, "none").tolist() == CENTRED


def test_nonzero_takes_sigma_over_the_mixed_groups():
    # S = {a, b}: 8 rollouts, mu = 0, sigma^2 = (7/4) / 8 = 7/32, sigma = 0.467707173...
    # so 0.75 -> 1.603567, 0.25 -> 0.534522, 0.5 -> 1.069045.
    got = two_step_advantages(REWARDS, GROUPS, "nonzero", eps=0.0)
    a = [1.603567451, -0.534522484, -0.534522484, -0.534522484]
    b = [1.069044968, 1.069044968, -1.069044968, -1.069044968]
    assert got[:8] == pytest.approx([*a, *b], abs=1e-9)
    assert (got[8:] == 0.0).all()


def test_all_takes_sigma_over_every_group():
    # S = {a, b, c, d}: 16 rollouts, sigma^2 = (7/4) / 16 = 7/64, sigma = sqrt(7) / 8 = 0.330718914.
    got = two_step_advantages(REWARDS, GROUPS, "all", eps=0.0)
    assert got[0] == pytest.approx(0.75 * 8 / math.sqrt(7), abs=1e-12)  # 2.267786838
    assert got[4] == pytest.approx(0.5 * 8 / math.sqrt(7), abs=1e-12)  # 1.511857892
    assert (got[8:] == 0.0).all()


def test_eps_is_added_to_sigma():
    # One group [1, 0]: A' = 0.5, -0.5; sigma = 0.5; with eps = 0.5 the quotient is 0.5.
    assert two_step_advantages([1, 0], [7, 7], eps=0.5).tolist() == [0.5, -0.5]


def test_default_eps_is_one_millionth():
    assert two_step_advantages([1, 0], [0, 0])[0] == pytest.approx(0.5 / (0.5 + 1e-6), abs=1e-15)


def test_groups_of_different_sizes_weigh_by_their_rollouts():
    # a = [1, 0]: A' = 1/2, -1/2.  b = [1, 1, 0]: A' = 1/3, 1/3, -2/3.
    # sum of squares = 1/2 + 6/9 = 7/6 over 5 rollouts: sigma^2 = 7/30.
    got = two_step_advantages([1, 0, 1, 1, 0], [0, 0, 1, 1, 1], eps=0.0)
    sigma = math.sqrt(7 / 30)
    assert got == pytest.approx(np.array([1 / 2, -1 / 2, 1 / 3, 1 / 3, -2 / 3]) / sigma, abs=1e-12)


def test_a_batch_without_a_mixed_group_has_no_advantage():
    for mode in ("none", "nonzero", "all"):
        assert two_step_advantages([1, 1, 0, 0], [0, 0, 1, 1], mode, eps=0.0).tolist() == [0.0] * 4
