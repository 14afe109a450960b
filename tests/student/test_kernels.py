"""Compiled loops: what the steps built on them do not show."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from zppo.student import kernels

f4 = np.float32


@njit
def exponentials(x, out):
    for i in range(len(x)):
        out[i] = kernels._exp(x[i])


def exp(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    exponentials(x, out)
    return out


def test_the_exponential_is_within_two_units_in_the_last_place():
    x = np.linspace(-86.9, 88, 2_000_001).astype(f4)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(exp(x) - exact) / np.spacing(exact.astype(f4))) <= 2.0


def test_the_exponential_where_it_ends():
    special = np.array([np.nan, -np.inf, -1e30, -87.5, 0.0, 1e30, np.inf], dtype=f4)
    highest = exp(np.array([88.0], dtype=f4))[0]
    np.testing.assert_array_equal(exp(special), [np.nan, 0.0, 0.0, 0.0, 1.0, highest, highest])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_come_out_again(bad):
    """So that the sampler can say that a model is broken."""
    hidden, change, out = np.ones((2, 8), f4), np.zeros((2, 8), f4), np.empty((2, 8), f4)
    change[1, 3] = bad
    kernels.add_norm(hidden, change, np.ones(8, f4), f4(1e-6), out)
    assert np.isfinite(out[0]).all() and not np.isfinite(out[1]).all()
    gate_up = np.ones((2, 16), f4)
    gate_up[1, 3] = bad
    kernels.gated(gate_up, out)
    assert np.isfinite(out[0]).all() and not np.isfinite(out[1, 3])
    logits = np.zeros((2, 300), f4)
    logits[1, 7] = bad
    token, logprob = np.empty(2, np.int64), np.empty(2, f4)
    kernels.draw(logits, f4(1.0), np.array([0]), np.array([0.5, 0.5]), 256, token, logprob)
    assert np.isfinite(logprob[0]) and not np.isfinite(logprob[1])
    assert (token >= 0).all() and (token < 300).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_attention_to_a_key_that_is_no_number(bad):
    D, inputs = 4, np.ones((1, 16), f4)
    weight, ones = np.ones(D, f4), np.ones((1, 2), f4)
    prompt = np.ones((1, 1, 3, D), f4)
    prompt[0, 0, 2, 1] = bad
    own, out = np.ones((1, 1, 5, D), f4), np.empty((1, D), f4)
    first, owner = np.zeros(1, np.int64), np.zeros(1, np.int64)
    kernels.attend(
        inputs, weight, weight, f4(1e-6), ones, ones, prompt, np.ones_like(prompt), first, owner,
        own, own.copy(), 2, out,
    )  # fmt: skip
    assert np.isnan(out).any()
