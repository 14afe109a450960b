"""Log-probs in chunks equal the dense ones, at a chunk's memory."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from zppo.student.losses import chunked_logprobs, sampling_logits

N, H, V = 29, 8, 50


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, H, generator=generator, requires_grad=True)
    weight = torch.randn(V, H, generator=generator, requires_grad=True)
    targets = torch.randint(10, V, (N,), generator=generator)
    weights = torch.randn(N, generator=generator)
    return hidden, weight, targets, weights


def dense(hidden, weight, targets, temperature=1.0, banned=()):
    logits = hidden @ weight.T / temperature
    logits[:, list(banned)] = -torch.inf
    return logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@pytest.mark.parametrize("chunk", [1, 7, N, 10 * N])
@pytest.mark.parametrize("temperature, banned", [(1.0, ()), (0.7, (0, 3)), (1.8, (9,))])
def test_chunks_equal_the_dense_form(chunk, temperature, banned):
    hidden, weight, targets, weights = problem()
    expected = dense(hidden, weight, targets, temperature, banned)
    gradients = torch.autograd.grad((expected * weights).sum(), (hidden, weight))
    actual = chunked_logprobs(hidden, targets, lambda h: h @ weight.T, temperature, banned, chunk)
    assert actual.shape == (N,) and actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad((actual * weights).sum(), (hidden, weight))
    torch.testing.assert_close(ours, gradients, atol=1e-5, rtol=1e-4)


def test_kept_logits_are_computed_once():
    hidden, weight, targets, weights = problem()
    asked: list[int] = []

    def head(h):
        asked.append(len(h))
        return h @ weight.T

    found = []
    for keep in (False, True):
        values = chunked_logprobs(hidden, targets, head, chunk_tokens=7, keep_logits=keep)
        found.append(torch.autograd.grad((values * weights).sum(), (hidden, weight)))
    chunks = -(-N // 7)
    assert len(asked) == 3 * chunks and max(asked) == 7
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_chunks_of_a_bf16_head_are_computed_in_fp32():
    hidden, weight, targets, _ = problem()
    low, low_weight = hidden.detach().bfloat16(), weight.detach().bfloat16()
    actual = chunked_logprobs(low, targets, lambda h: h @ low_weight.T, 1.0, (), 7)
    logits = (low @ low_weight.T).float()
    torch.testing.assert_close(actual, logits.log_softmax(-1)[range(N), targets])


def test_no_more_than_a_chunk_of_logits_is_ever_held():
    """What the head is asked for, and the bytes kept for the backward pass."""
    n, v, chunk = 512, 1_000, 32
    hidden, weight = torch.randn(n, H, requires_grad=True), torch.randn(v, H, requires_grad=True)
    targets = torch.randint(0, v, (n,))
    asked: list[int] = []

    def head(h):
        asked.append(h.shape[0])
        return h @ weight.T

    kept = [0]

    def count(tensor):
        kept[0] += tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        values = chunked_logprobs(hidden, targets, head, 0.9, (1,), chunk)
    forward = len(asked)
    values.sum().backward()
    assert max(asked) == chunk and forward == n // chunk
    assert len(asked) == 2 * forward  # each chunk once more in the backward pass
    one_chunk = chunk * v * 4
    assert kept[0] < 2 * one_chunk < n * v * 4 / 4


def test_nothing_is_kept_without_gradients():
    hidden, weight, targets, _ = problem()
    with torch.no_grad():
        values = chunked_logprobs(hidden, targets, lambda h: h @ weight.T, chunk_tokens=7)
    assert not values.requires_grad
    torch.testing.assert_close(values, dense(hidden, weight, targets).detach())


def test_banned_tokens_have_probability_zero():
    logits = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    out = sampling_logits(logits, 2.0, [2])
    probs = out.softmax(-1)
    torch.testing.assert_close(probs, torch.tensor([[0.5, 1.0, -torch.inf]]).softmax(-1))
    probs[0, 0].backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[0, 2] == 0
