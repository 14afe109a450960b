"""The divergence of distillation: in chunks what it is densely, at a chunk's memory."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from zppo.student.losses import token_jsd

N, H, TEACHER_H, V = 23, 8, 12, 50


def problem(seed=0, teacher_rows=V, student_rows=V):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    hidden, weight = randn(N, H).requires_grad_(), randn(student_rows, H).requires_grad_()
    theirs, their_weight = randn(N, TEACHER_H), randn(teacher_rows, TEACHER_H)
    return hidden, weight, theirs, their_weight, randn(N)


def dense(hidden, weight, theirs, their_weight, temperature=1.0, banned=(), beta=0.5):
    """Straight from the definition, by autograd, over all tokens at once."""
    kept = [i for i in range(min(len(weight), len(their_weight))) if i not in banned]
    q = (hidden @ weight.T / temperature)[:, kept].log_softmax(-1)
    p = (theirs @ their_weight.T / temperature)[:, kept].log_softmax(-1)
    m = (beta * p.exp() + (1 - beta) * q.exp()).log()
    kl = [F.kl_div(m, x, log_target=True, reduction="none").sum(-1) for x in (p, q)]
    return beta * kl[0] + (1 - beta) * kl[1]


def chunked(hidden, weight, theirs, their_weight, *args, **options):
    return token_jsd(
        hidden, lambda h: h @ weight.T, theirs, lambda h: h @ their_weight.T, *args, **options
    )


@pytest.mark.parametrize("chunk", [1, 7, N, 10 * N])
@pytest.mark.parametrize(
    "temperature, banned, beta", [(1.0, (), 0.5), (0.7, (0, 3), 0.5), (1.8, (9,), 0.1)]
)
def test_chunks_equal_the_dense_form(chunk, temperature, banned, beta):
    *tensors, weights = problem()
    expected = dense(*tensors, temperature, banned, beta)
    actual = chunked(*tensors, temperature, banned, chunk, beta)
    assert actual.shape == (N,) and actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((x * weights).sum(), tensors[:2]) for x in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_the_closed_gradient_is_that_of_finite_differences():
    hidden, weight, theirs, their_weight, _ = problem()
    value = chunked(hidden, weight, theirs, their_weight, chunk_tokens=5)
    (slope,) = torch.autograd.grad(value.sum(), hidden)
    for row, column in [(0, 0), (7, 3), (22, 7)]:
        step = torch.zeros_like(hidden)
        step[row, column] = 1e-2
        up, down = (
            dense(
                (hidden + sign * step).double(),
                weight.double(),
                theirs.double(),
                their_weight.double(),
            )
            for sign in (1, -1)
        )
        numeric = (up - down).sum() / 2e-2
        torch.testing.assert_close(slope[row, column].double(), numeric, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("rows, teacher_rows", [(V, V + 14), (V + 6, V)])
def test_a_vocabulary_padded_to_different_sizes(rows, teacher_rows):
    """Only the shared ids are compared; rows of padding get neither probability nor gradient."""
    *tensors, weights = problem(student_rows=rows, teacher_rows=teacher_rows)
    actual = chunked(*tensors, chunk_tokens=7)
    torch.testing.assert_close(actual, dense(*tensors), atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad((actual * weights).sum(), tensors[1])
    assert slope[:V].any(-1).all() and not slope[V:].any()


def test_the_teacher_gets_no_gradient():
    hidden, weight, theirs, their_weight, _ = problem()
    theirs.requires_grad_()
    their_weight.requires_grad_()
    chunked(hidden, weight, theirs, their_weight, chunk_tokens=7).sum().backward()
    assert theirs.grad is None and their_weight.grad is None
    assert hidden.grad is not None and weight.grad is not None


def test_no_more_than_a_chunk_of_either_models_logits_is_ever_held():
    n, v, chunk = 512, 1_000, 32
    hidden, weight = torch.randn(n, H, requires_grad=True), torch.randn(v, H, requires_grad=True)
    theirs, their_weight = torch.randn(n, TEACHER_H), torch.randn(v, TEACHER_H)
    asked: dict[str, list[int]] = {"student": [], "teacher": []}

    def head(name, matrix):
        def logits(h):
            asked[name].append(h.shape[0])
            return h @ matrix.T

        return logits

    kept = [0]

    def count(tensor):
        kept[0] += tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        values = token_jsd(
            hidden, head("student", weight), theirs, head("teacher", their_weight), 1.0, (1,), chunk
        )
    assert kept[0] < n * v * 4 / 8  # inputs and weights; no logits
    values.sum().backward()
    for sizes in asked.values():
        assert max(sizes) == chunk and len(sizes) == 2 * n // chunk


def test_bf16_heads_are_compared_in_fp32():
    *tensors, _ = problem()
    low = [t.detach().bfloat16() for t in tensors]
    low[0].requires_grad_()
    actual = chunked(*low, chunk_tokens=7)
    ours, theirs = (low[0] @ low[1].T).float(), (low[2] @ low[3].T).float()
    expected = dense(ours, torch.eye(V), theirs, torch.eye(V))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    actual.sum().backward()
    assert low[0].grad is not None and torch.isfinite(low[0].grad).all()


def test_logits_of_any_size_stay_finite_and_within_bounds():
    """Certain, opposed and infinitely negative logits; nothing but banned ids apart."""
    logits = torch.tensor(
        [[1e4, -1e4, 0.0, 0.0], [0.0, -math.inf, 3e4, 1.0], [-50.0, 0.0, 0.0, 0.0]],
    ).requires_grad_()
    theirs = torch.tensor([[-1e4, 1e4, 0.0, 0.0], [0.0, 5.0, -math.inf, 1.0], [-50.0, 0.0, 0, 0]])
    value = token_jsd(logits, lambda h: h, theirs, lambda h: h, banned=[3])
    value.sum().backward()
    torch.testing.assert_close(value, torch.tensor([math.log(2), math.log(2), 0.0]))
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_nothing_is_kept_without_gradients():
    *tensors, _ = problem()
    with torch.no_grad():
        values = chunked(*tensors, chunk_tokens=7)
    assert not values.requires_grad
    torch.testing.assert_close(values, dense(*tensors).detach(), atol=1e-5, rtol=1e-5)
