"""The fused norm gives what transformers' norms give, forward and backward."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5RMSNorm

from tests import tiny
from zppo.student.norm import rms_norm, use_fused_norms


def made(kind, dtype=torch.float32):
    torch.manual_seed(0)
    norm = kind(12, eps=1e-3)
    torch.nn.init.normal_(norm.weight)
    return norm.to(dtype)


def results(norm, x):
    x = x.clone().requires_grad_()
    norm.weight.grad = None
    out = norm(x)
    (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
    return out.detach(), x.grad, norm.weight.grad


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3_5RMSNorm])
@pytest.mark.parametrize("layout", ["rows", "heads", "strided"])
def test_output_and_gradients(kind, layout):
    torch.manual_seed(1)
    x = torch.randn(5, 3, 12)
    x = {"rows": x[:, 0], "heads": x, "strided": torch.randn(5, 3, 30)[..., 7:19]}[layout]
    norm = made(kind)
    expected = results(norm, x)
    use_fused_norms(norm)
    assert "forward" in norm.__dict__
    for actual, wanted in zip(results(norm, x), expected, strict=True):
        torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)


def test_second_moment_by_finite_differences():
    """Against no other implementation: the gradient itself, in double precision."""
    torch.manual_seed(2)
    x = torch.randn(3, 7, dtype=torch.double, requires_grad=True)
    weight = torch.randn(7, dtype=torch.double, requires_grad=True)
    from zppo.student.norm import _RMSNorm

    assert torch.autograd.gradcheck(lambda a, b: _RMSNorm.apply(a, b, 1e-4), (x, weight))


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3_5RMSNorm])
def test_bf16_is_computed_in_fp32(kind):
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)).bfloat16()
    norm = made(kind, torch.bfloat16)
    exact = made(kind)
    exact.weight.data = norm.weight.data.float()
    expected = results(exact, x.float())
    use_fused_norms(norm)
    for actual, wanted in zip(results(norm, x), expected, strict=True):
        assert actual.dtype == torch.bfloat16
        assert (actual.float() - wanted).norm() < 0.01 * wanted.norm()


def test_other_norms_are_left_alone():
    norm = torch.nn.RMSNorm(12)
    use_fused_norms(norm)
    assert "forward" not in norm.__dict__


@pytest.mark.parametrize("kind, count", [("llama", 5), ("hybrid", 9), ("vlm", 9)])
def test_all_norms_of_a_model_are_taken(kind, count):
    model = tiny.loaded(kind).model
    norms = [m for m in model.modules() if type(m).__name__ in ("LlamaRMSNorm", "Qwen3_5RMSNorm")]
    assert len(norms) == count and all("forward" in m.__dict__ for m in norms)


def test_a_row_of_zeros_has_a_finite_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x, torch.ones(4), 1e-6).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
