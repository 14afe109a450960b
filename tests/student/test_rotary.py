"""The fused rotation gives what transformers' function gives, forward and backward."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama import modeling_llama
from transformers.models.qwen3_5 import modeling_qwen3_5

from tests import tiny
from zppo.student.rotary import rotated, use_fused_rotation


def reference(module):
    """transformers' own function, also where this process has replaced it."""
    source = modeling_qwen3_5 if module == "partial" else modeling_llama

    def rotate(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        d = cos.shape[-1]
        turned = [
            torch.cat([x[..., :d] * cos + source.rotate_half(x[..., :d]) * sin, x[..., d:]], -1)
            for x in (q, k)
        ]
        return tuple(turned)

    return rotate


@pytest.mark.parametrize("module, d", [("partial", 4), ("partial", 12), ("whole", 12)])
@pytest.mark.parametrize("dim", [1, 2])
def test_output_and_gradients(module, d, dim):
    torch.manual_seed(0)
    angles = torch.randn(2, 5, d // 2)
    cos, sin = (torch.cat([f, f], -1) for f in (angles.cos(), angles.sin()))
    shape = (2, 5, 3, 12) if dim == 2 else (2, 3, 5, 12)
    q, k = (torch.randn(shape, requires_grad=True) for _ in range(2))
    weights = torch.randn(shape)
    found = []
    for rotate in (reference(module), rotated):
        out = rotate(q, k, cos, sin, unsqueeze_dim=dim)
        gradients = torch.autograd.grad(sum((x * weights).sum() for x in out), (q, k))
        found.append((*out, *gradients))
    for actual, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)


def test_only_known_modeling_code_is_changed(monkeypatch):
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", None)
    use_fused_rotation(torch.nn.Linear(2, 2))
    assert modeling_llama.apply_rotary_pos_emb is None
    use_fused_rotation(tiny.loaded("llama").model)
    assert modeling_llama.apply_rotary_pos_emb is rotated
