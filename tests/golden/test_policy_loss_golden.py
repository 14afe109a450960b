"""The policy loss against numbers worked by hand. Ratios are given; log-probs follow from them."""

from __future__ import annotations

import math

import pytest
import torch

from zppo.student.losses import policy_loss

NAN, INF = math.nan, math.inf


def loss_of(ratios, advantages, mask=None, **options):
    """(loss, stats, gradient with respect to the log-probs) for (B, T) ratios."""
    ratio = torch.tensor(ratios, dtype=torch.float64)
    old = torch.full_like(ratio, -1.5)
    new = (old + ratio.log()).requires_grad_()
    mask = torch.ones_like(ratio) if mask is None else torch.tensor(mask, dtype=torch.float64)
    loss, stats = policy_loss(
        new, old, torch.tensor(advantages, dtype=torch.float64), mask, **options
    )
    loss.backward()
    return loss.item(), {k: v.item() for k, v in stats.items()}, new.grad


def close(actual, expected):
    actual = torch.as_tensor(actual, dtype=torch.float64)
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9
    )


def test_on_policy_is_minus_the_mean_advantage():
    # Ratio 1. Three tokens at A = 2 and two at A = -1: -(6 - 2) / 5 = -0.8.
    loss, stats, gradient = loss_of(
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[2.0], [-1.0]], [[1, 1, 1], [1, 1, 0]]
    )
    close(loss, -0.8)
    # d/d logp of -A * ratio / 5 = -A * ratio / 5.
    close(gradient, [[-0.4, -0.4, -0.4], [0.2, 0.2, 0.0]])
    assert stats == {"clipped_low": 0, "clipped_high": 0, "clipped_dual": 0, "kl": 0, "tokens": 5}


def test_clip_high_holds_what_gets_likelier_with_a_positive_advantage():
    # A = 1. Ratio 1.27 is inside 1 + 0.28, 1.5 is outside: -(1.27 + 1.28) / 2 = -1.275.
    loss, stats, gradient = loss_of([[1.27, 1.5]], [[1.0]])
    close(loss, -1.275)
    close(gradient, [[-0.635, 0.0]])
    assert stats["clipped_high"] == 1 and stats["clipped_low"] == 0


def test_clip_low_holds_what_gets_less_likely_with_a_negative_advantage():
    # A = -1. Ratio 0.81 is inside 1 - 0.2, 0.5 is outside: (0.81 + 0.8) / 2 = 0.805.
    loss, stats, gradient = loss_of([[0.81, 0.5]], [[-1.0]])
    close(loss, 0.805)
    close(gradient, [[0.405, 0.0]])
    assert stats["clipped_low"] == 1 and stats["clipped_high"] == 0


def test_a_clip_never_stops_a_step_back():
    # Outside the range on the side the advantage pulls away from: nothing is clipped.
    # A = 1, ratio 0.5: -0.5; A = -1, ratio 1.5: 1.5. Mean over 2: 0.5.
    loss, stats, gradient = loss_of([[0.5], [1.5]], [[1.0], [-1.0]])
    close(loss, 0.5)
    close(gradient, [[-0.25], [0.75]])
    assert stats["clipped_low"] == stats["clipped_high"] == 0


def test_the_clip_is_asymmetric():
    # At 1.25 a positive advantage still learns (1.25 < 1.28); at 0.78 a negative one does not
    # (0.78 < 0.80), though it is nearer to 1.
    _, _, gradient = loss_of([[1.25], [0.78]], [[1.0], [-1.0]])
    close(gradient, [[-0.625], [0.0]])
    # With the bounds swapped it is the other way round.
    _, _, gradient = loss_of([[1.25], [0.78]], [[1.0], [-1.0]], clip_low=0.28, clip_high=0.2)
    close(gradient, [[0.0], [0.39]])


def test_dual_clip_bounds_the_loss_of_negative_advantages():
    # A = -2. Ratio 9: 18, under 2 * 10. Ratio 12: 24, held at 20. Mean 19.
    loss, stats, gradient = loss_of([[9.0, 12.0]], [[-2.0]])
    close(loss, 19.0)
    close(gradient, [[9.0, 0.0]])
    assert stats["clipped_dual"] == 1
    # A positive advantage knows no such bound: it is held by clip_high at -2 * 1.28.
    loss, stats, _ = loss_of([[12.0]], [[2.0]])
    close(loss, -2.56)
    assert stats["clipped_dual"] == 0 and stats["clipped_high"] == 1


def test_the_mean_is_over_tokens_not_over_rows():
    # Rows of 1 and 3 tokens, A = 4 and A = 1: -(4 + 3) / 4 = -1.75; a mean of row means would
    # be -2.5.
    loss, _, _ = loss_of([[1.0] * 3] * 2, [[4.0], [1.0]], [[1, 0, 0], [1, 1, 1]])
    close(loss, -1.75)


def test_denominator_makes_micro_batches_add_up():
    # The same two rows one by one over the mini-batch's four tokens: -1 and -0.75.
    first, _, _ = loss_of([[1.0] * 3], [[4.0]], [[1, 0, 0]], denominator=4)
    second, _, _ = loss_of([[1.0] * 3], [[1.0]], [[1, 1, 1]], denominator=4)
    close(first, -1.0)
    close(second, -0.75)


def test_advantages_of_a_token_or_of_a_row():
    rows = loss_of([[1.1, 0.9], [1.0, 1.0]], [[1.0], [-2.0]])
    tokens = loss_of([[1.1, 0.9], [1.0, 1.0]], [[1.0, 1.0], [-2.0, -2.0]])
    close(rows[0], tokens[0])
    close(rows[2], tokens[2].tolist())
    # Different values within a row: -(1 * 1 + (-3) * 1) / 2 = 1.
    close(loss_of([[1.0, 1.0]], [[1.0, -3.0]])[0], 1.0)


@pytest.mark.parametrize("junk", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_padding_reaches_neither_loss_nor_gradient(junk, advantage):
    """Whatever stands in masked places of the log-probs, old log-probs and advantages."""
    new = torch.tensor([[-1.0, junk]], requires_grad=True)
    for old_junk in (0.0, NAN, -INF):
        for row in ([[advantage]], [[advantage, NAN]]):
            new.grad = None
            loss, stats = policy_loss(
                new, torch.tensor([[-1.0, old_junk]]), torch.tensor(row), torch.tensor([[1, 0]])
            )
            loss.backward()
            close(loss.item(), -advantage)
            close(new.grad, [[-advantage, 0.0]])
            assert all(math.isfinite(v.item()) for v in stats.values())


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("log_ratio", [200.0, -200.0])
def test_extreme_ratios_have_a_finite_gradient(advantage, log_ratio):
    # exp(200) is infinite in fp32 and its clipped gradient would be 0 * inf.
    new = torch.tensor([[log_ratio - 1.0, -1.0]], requires_grad=True)
    loss, stats = policy_loss(
        new, torch.tensor([[-1.0, -1.0]]), torch.tensor([[advantage]]), torch.ones(1, 2)
    )
    loss.backward()
    assert math.isfinite(loss.item()) and math.isfinite(stats["kl"].item())
    close(new.grad, [[0.0, -advantage / 2]])


def test_kl_is_the_sum_of_k3_estimates():
    # k3 = r - 1 - ln r: 0.5 - 1 + ln 2 and 2 - 1 - ln 2, together 0.5.
    _, stats, _ = loss_of([[0.5, 2.0, 9.0]], [[1.0]], [[1, 1, 0]])
    close(stats["kl"], 0.5)
    assert stats["tokens"] == 2


def test_gradient_equals_the_derived_one():
    """d loss / d logp = -A * ratio / N where no bound holds, 0 where one does."""
    generator = torch.Generator().manual_seed(0)
    ratio = torch.rand(40, 7, generator=generator, dtype=torch.float64) * 3 + 0.05
    ratio[0] = 15.0
    advantages = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    advantages[0] = -1.0
    mask = (torch.rand(40, 7, generator=generator) < 0.7).double()
    held = torch.where(advantages > 0, ratio > 1.28, (ratio < 0.8) | (ratio > 10))
    expected = -advantages * ratio * ~held * mask / mask.sum()
    _, _, gradient = loss_of(ratio.tolist(), advantages.tolist(), mask.tolist())
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=1e-9)
