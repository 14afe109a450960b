"""A chunked MLP gives what transformers' MLP gives, forward and backward."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from zppo.student import mlp
from zppo.student.mlp import use_chunked_mlps


def made(hidden=6, inner=10, **options):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_attention_heads=2, **options
    )
    return LlamaMLP(config)


def results(module, x):
    x = x.clone().requires_grad_()
    module.zero_grad()
    out = module(x)
    (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
    return out.detach(), x.grad, *(p.grad.clone() for p in module.parameters())


@pytest.mark.parametrize("tokens", [2, 4, 100])
@pytest.mark.parametrize("shape", [(7, 6), (2, 4, 6)])
def test_output_and_gradients(monkeypatch, tokens, shape):
    monkeypatch.setattr(mlp, "TOKENS", tokens)
    module, x = made(), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = results(module, x)
    use_chunked_mlps(module)
    assert "forward" in module.__dict__
    calls = []
    monkeypatch.setattr(module.gate_proj, "forward", lambda x: calls.append(x))
    for actual, wanted in zip(results(module, x), expected, strict=True):
        torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)
    assert not calls  # the layers' own forward did not run


def test_without_gradients_the_layers_run_themselves():
    """While a batch decodes they hold packed weights."""
    module, x = made(), torch.randn(3, 6)
    use_chunked_mlps(module)
    calls = []
    own = module.gate_proj.forward
    module.gate_proj.forward = lambda x: calls.append(x) or own(x)
    with torch.no_grad():
        module(x)
    assert len(calls) == 1


@pytest.mark.parametrize("change", ["adapter", "bias", "activation", "bf16"])
def test_other_layers_run_themselves(change):
    module = made(
        mlp_bias=change == "bias", hidden_act="gelu" if change == "activation" else "silu"
    )
    x = torch.randn(3, 6)
    if change == "adapter":
        module.up_proj = torch.nn.Sequential(module.up_proj)
    if change == "bf16":
        module, x = module.bfloat16(), x.bfloat16()
    expected = module(x)
    use_chunked_mlps(module)
    assert torch.equal(module(x), expected)


def test_large_ones_are_left_alone(monkeypatch):
    monkeypatch.setattr(mlp, "SMALL", 59)
    module = made()
    use_chunked_mlps(module)
    assert "forward" not in module.__dict__
