"""The Jensen-Shannon divergence against numbers worked by hand, three symbols a distribution."""

from __future__ import annotations

import math

import pytest
import torch

from zppo.student.losses import token_jsd

LOG2, LOG3 = math.log(2), math.log(3)


def jsd_of(student, teacher, **options):
    """Divergence of two distributions, and its gradient with respect to the student's logits.

    The hidden states are the logits: any logits of log p + constant have the distribution p.
    """
    logits = (torch.tensor([student]).log() + 0.3).requires_grad_()
    value = token_jsd(
        logits, lambda h: h, torch.tensor([teacher]).log() - 5.0, lambda h: h, **options
    )
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.item(), gradient[0]


def close(actual, expected):
    torch.testing.assert_close(
        torch.as_tensor(actual), torch.tensor(expected), atol=1e-6, rtol=1e-5
    )


def test_equal_distributions_are_at_zero_with_no_slope():
    value, gradient = jsd_of([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])
    close(value, 0.0)
    close(gradient, [0.0, 0.0, 0.0])


def test_distributions_without_a_common_symbol_are_log_two_apart():
    # M = (1/2, 1/2, 0): both KL terms are log 2. A student sure of its symbol has no slope.
    value, gradient = jsd_of([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    close(value, LOG2)
    close(gradient, [0.0, 0.0, 0.0])


def test_a_half_sure_student():
    # Q = (1/2, 1/2, 0), P = (1/2, 0, 1/2), M = (1/2, 1/4, 1/4).
    # KL(Q||M) = 1/2 log 1 + 1/2 log 2 = log(2) / 2, and KL(P||M) the same: JSD = log(2) / 2.
    # Slope: 1/2 q (log(q/m) - KL) = 1/2 * 1/2 * (0 - log(2)/2, log 2 - log(2)/2) = -+log(2) / 8.
    value, gradient = jsd_of([0.5, 0.5, 0.0], [0.5, 0.0, 0.5])
    close(value, LOG2 / 2)
    close(gradient, [-LOG2 / 8, LOG2 / 8, 0.0])


def test_an_asymmetric_mixture():
    # beta = 1/4, P = (1, 0, 0), Q = (1/3, 1/3, 1/3): M = 1/4 P + 3/4 Q = (1/2, 1/4, 1/4).
    # KL(P||M) = log 2. KL(Q||M) = 1/3 log(2/3) + 2/3 log(4/3) = 5/3 log 2 - log 3.
    # JSD = 1/4 log 2 + 3/4 (5/3 log 2 - log 3) = 3/2 log 2 - 3/4 log 3.
    value, _ = jsd_of([1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0], beta=0.25)
    close(value, 1.5 * LOG2 - 0.75 * LOG3)


def test_beta_is_the_weight_of_the_teacher():
    # M leans to the teacher's side the larger beta is, and the two arguments are not alike.
    one, _ = jsd_of([0.7, 0.2, 0.1], [0.1, 0.1, 0.8], beta=0.2)
    other, _ = jsd_of([0.1, 0.1, 0.8], [0.7, 0.2, 0.1], beta=0.8)
    close(one, other)


def test_the_temperature_is_that_of_both():
    # At temperature 2 probabilities become square roots: (4, 1, 1)/6 -> (2, 1, 1)/4.
    hot, _ = jsd_of([4 / 6, 1 / 6, 1 / 6], [1 / 6, 4 / 6, 1 / 6], temperature=2.0)
    cold, _ = jsd_of([0.5, 0.25, 0.25], [0.25, 0.5, 0.25])
    close(hot, cold)


@pytest.mark.parametrize("banned, kept", [([2], [0, 1]), ([0], [1, 2])])
def test_a_banned_symbol_is_in_neither_distribution(banned, kept):
    q, p = [0.5, 0.25, 0.25], [0.2, 0.4, 0.4]
    value, gradient = jsd_of(q, p, banned=banned)
    expected, slope = jsd_of([q[i] for i in kept], [p[i] for i in kept])
    close(value, expected)
    close(gradient[kept], slope.tolist())
    assert gradient[banned[0]] == 0.0
