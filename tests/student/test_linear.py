"""Products through oneDNN are those of torch, with the same gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zppo.student import linear
from zppo.student.linear import packed_weights, use_onednn


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


@pytest.mark.parametrize("n, o, i", [(100, 30, 5), (100, 5, 30), (3, 30, 5), (1, 4, 4)])
def test_weight_gradients_of_any_shape(n, o, i):
    """Whichever factor is copied."""
    torch.manual_seed(0)
    grad, x = torch.randn(n, o), torch.randn(n, i)
    torch.testing.assert_close(linear.weight_gradient(grad, x), grad.T @ x, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("plain", [True, False])
def test_layers_of_one_input_side_by_side(dtype, plain):
    torch.manual_seed(0)
    layers = [nn.Linear(6, n, bias=False).to(dtype) for n in (3, 1, 4)]
    x = torch.randn(5, 6, dtype=dtype, requires_grad=True)
    expected = torch.cat([layer(x) for layer in layers], -1)
    shown = layers if plain else [layers[0], nn.Sequential(layers[1]), layers[2]]
    actual = linear.joint(x, *shown)
    torch.testing.assert_close(actual, expected)
    wanted = [x, *(layer.weight for layer in layers)]
    grad = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, wanted, grad)
    near = 1e-6 if dtype == torch.float32 else 1e-2  # bf16 sums round after each layer or once
    for a, b in zip(torch.autograd.grad(actual, wanted, grad), gradients, strict=True):
        assert (a - b).float().norm() <= near * b.float().norm()


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_constant_weights_side_by_side(monkeypatch, faster, dtype):
    if faster and not linear.onednn_is_faster():
        pytest.skip("oneDNN is not used on this machine")
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: faster)
    torch.manual_seed(0)
    weights, x = [torch.randn(n, 6, dtype=dtype) for n in (3, 4)], torch.randn(5, 6, dtype=dtype)
    actual = linear.constant_linear(*weights)(x)
    torch.testing.assert_close(actual, x @ torch.cat(weights).T, atol=1e-5, rtol=1e-2)
    torch.testing.assert_close(linear.constant_linear(weights[0])(x), actual[:, :3])


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


@pytest.mark.parametrize("name", ["_PRODUCT", "_PACK"])
def test_a_torch_without_the_operations_keeps_its_own(monkeypatch, name):
    monkeypatch.setattr(linear, name, "no_such_operation")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not linear.onednn_is_faster.__wrapped__()


@pytest.fixture
def packed(monkeypatch):
    """The weights packed so far."""
    found = []
    pack = torch.ops.mkldnn._reorder_linear_weight

    def watched(weight, rows):
        found.append(weight)
        return pack(weight, rows)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", watched)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 1), (2, 40), (2, 0)])
@torch.no_grad()
def test_packed_weights_give_the_same(packed, dtype, bias, shape):
    torch.manual_seed(0)
    layer = nn.Linear(30, 50, bias).to(dtype)
    x = torch.randn(*shape, 30, dtype=dtype)
    expected = F.linear(x, layer.weight, layer.bias)
    use_onednn(layer)
    with packed_weights(layer):
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x), expected)
    assert len(packed) == (x.numel() > 0)
    torch.testing.assert_close(layer(x), expected)
    assert len(packed) == (x.numel() > 0)


@torch.no_grad()
def test_no_packed_weight_outlives_its_block():
    layer, x = nn.Linear(30, 50), torch.randn(2, 30)
    use_onednn(layer)
    with pytest.raises(KeyError), packed_weights(layer):
        before = layer(x)
        raise KeyError
    layer.weight.mul_(2.0)
    after = F.linear(x, layer.weight, layer.bias)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(layer(x), after)
    with packed_weights(layer):
        torch.testing.assert_close(layer(x), after)


@torch.no_grad()
def test_only_layers_that_run_and_were_set_up_are_packed(packed):
    runs, rests, not_ours = (nn.Linear(4, 4) for _ in range(3))
    model = nn.ModuleList([runs, rests])
    use_onednn(model)
    with packed_weights(model, runs, not_ours):
        runs(torch.ones(1, 4))
        not_ours(torch.ones(1, 4))
    assert len(packed) == 1 and packed[0] is runs.weight
    assert "forward" not in not_ours.__dict__
