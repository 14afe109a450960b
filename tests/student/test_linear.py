"""Products through oneDNN are those of torch, with the same gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zppo.student import linear
from zppo.student.linear import use_onednn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (2, 5), (3, 1, 1), (2, 0)])
def test_same_values_and_gradients(bias, shape):
    torch.manual_seed(0)
    layer = nn.Linear(30, 50, bias)
    x = torch.randn(*shape, 30, requires_grad=True)
    wanted = [x, *layer.parameters()]
    expected = F.linear(x, layer.weight, layer.bias)
    grad = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, wanted, grad)
    use_onednn(layer)
    actual = layer(x)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(actual, wanted, grad), gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_frozen_weights_get_no_gradient():
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    use_onednn(layer)
    x = torch.randn(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None and layer.bias.grad is not None


def test_other_types_stay_with_torch():
    layer = nn.Linear(4, 3).bfloat16()
    use_onednn(layer)
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_torch_without_the_operation_keeps_its_own(monkeypatch):
    monkeypatch.setattr(linear, "_PRODUCT", "no_such_operation")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not linear.onednn_is_faster.__wrapped__()
