from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zppo.algorithm.advantage import two_step_advantages

MODES = ("none", "nonzero", "all")


@st.composite
def batches(draw: st.DrawFn, reward: st.SearchStrategy[float] | None = None):
    """(rewards, group_ids) of 1 to 8 groups of 1 to 9 rollouts, interleaved."""
    if reward is None:
        reward = st.sampled_from([0.0, 1.0])
    groups = draw(st.lists(st.lists(reward, min_size=1, max_size=9), min_size=1, max_size=8))
    pairs = [(r, g) for g, rewards in enumerate(groups) for r in rewards]
    pairs = draw(st.permutations(pairs))
    return np.array([r for r, _ in pairs]), np.array([g for _, g in pairs])


@given(batches(st.floats(-5, 5)), st.sampled_from(MODES))
def test_every_group_has_mean_zero(batch, mode):
    rewards, groups = batch
    advantages = two_step_advantages(rewards, groups, mode, eps=1e-6)
    scale = max(1.0, float(np.abs(advantages).max()))
    for g in np.unique(groups):
        assert abs(advantages[groups == g].mean()) < 1e-9 * scale


@given(batches())
def test_all_is_nonzero_scaled_by_the_share_of_mixed_rollouts(batch):
    rewards, groups = batch
    nonzero = two_step_advantages(rewards, groups, "nonzero", eps=0.0)
    everything = two_step_advantages(rewards, groups, "all", eps=0.0)
    mixed = np.array([len(set(rewards[groups == g])) > 1 for g in groups])
    if mixed.any():
        np.testing.assert_allclose(everything, nonzero / np.sqrt(mixed.mean()), rtol=1e-12)
    assert (everything[~mixed] == 0.0).all() and (nonzero[~mixed] == 0.0).all()


@given(batches())
def test_mixed_groups_have_unit_variance(batch):
    rewards, groups = batch
    advantages = two_step_advantages(rewards, groups, "nonzero", eps=0.0)
    mixed = np.array([len(set(rewards[groups == g])) > 1 for g in groups])
    if mixed.any():
        assert np.mean(advantages[mixed] ** 2) == pytest.approx(1.0)


@given(batches(), st.sampled_from(MODES), st.randoms())
def test_order_and_names_of_groups_do_not_matter(batch, mode, random):
    rewards, groups = batch
    order = list(range(len(rewards)))
    random.shuffle(order)
    names = np.array([f"question-{9 - g}" for g in groups])
    np.testing.assert_allclose(
        two_step_advantages(rewards[order], names[order], mode),
        two_step_advantages(rewards, groups, mode)[order],
        rtol=1e-12,
        atol=1e-15,
    )


@pytest.mark.parametrize("mode", MODES)
def test_equal_rewards_are_trivial_whatever_their_rounding(mode):
    # np.std([0.1] * 3) is 1.4e-17, not 0; dividing by it would make an advantage of nothing.
    assert np.std([0.1] * 3) > 0
    assert two_step_advantages([0.1] * 3, [0] * 3, mode, eps=0.0).tolist() == [0.0] * 3


def test_no_rollouts():
    result = two_step_advantages([], [])
    assert result.shape == (0,) and result.dtype == np.float64


def test_inputs_stay_untouched_and_any_number_kind_will_do():
    rewards = np.array([True, False])
    assert two_step_advantages(rewards, (3, 3), "none").tolist() == [0.5, -0.5]
    assert rewards.tolist() == [True, False]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rewards": [[1, 0]], "group_ids": [0, 0]}, "rewards"),
        ({"rewards": 1.0, "group_ids": [0]}, "rewards"),
        ({"rewards": ["x"], "group_ids": [0]}, "rewards"),
        (
            {"rewards": [1, float("nan")], "group_ids": [0, 0]},
            r"rewards must be finite; rewards\[1\]",
        ),
        ({"rewards": [1, float("inf")], "group_ids": [0, 0]}, "rewards"),
        ({"rewards": [1, 0], "group_ids": [0]}, "group_ids"),
        ({"rewards": [1, 0], "group_ids": [[0, 0]]}, "group_ids"),
        ({"rewards": [1, 0], "group_ids": [[0], [0, 1]]}, "group_ids"),
        ({"rewards": [1, 0], "group_ids": [0.0, float("nan")]}, "group_ids"),
        ({"rewards": [1, 0], "group_ids": [None, 1]}, "group_ids"),
        ({"rewards": [1, 0], "group_ids": [0, 0], "normalize": "some"}, "normalize"),
        ({"rewards": [1, 0], "group_ids": [0, 0], "eps": -1.0}, "eps"),
        ({"rewards": [1, 0], "group_ids": [0, 0], "eps": float("nan")}, "eps"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} "):
        two_step_advantages(**arguments)
