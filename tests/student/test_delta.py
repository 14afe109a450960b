"""The step in place gives transformers' output and state."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen3_5 import modeling_qwen3_5

from tests import tiny
from zppo.student import delta
from zppo.student.cpu import tune_for_cpu
from zppo.student.delta import _reference, one_token


def problem(tokens=1, key_heads=4, dtype=torch.float32):
    torch.manual_seed(0)
    q, k = (torch.randn(3, tokens, key_heads, 8, dtype=dtype) for _ in range(2))
    v = torch.randn(3, tokens, 4, 6, dtype=dtype)
    g, beta = -torch.rand(3, tokens, 4), torch.rand(3, tokens, 4, dtype=dtype)
    options = {"output_final_state": True, "use_qk_l2norm_in_kernel": True}
    return (q, k, v), {"g": g, "beta": beta, **options}, torch.randn(3, 4, 8, 6)


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_same_output_and_state_over_several_steps(key_heads, dtype):
    qkv, options, state = problem(key_heads=key_heads, dtype=dtype)
    expected_state = state.clone()
    # Up to transformers 5.19 the layer, not the rule, repeated the key heads.
    repeated = [x.repeat_interleave(4 // x.shape[2], dim=2) for x in qkv]
    for _ in range(3):
        expected, expected_state = _reference(*repeated, **options, initial_state=expected_state)
        actual, new = one_token(*qkv, **options, initial_state=state)
        assert new is state and actual.dtype == dtype and actual.shape == expected.shape
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(state, expected_state)


@pytest.mark.parametrize("case", ["longer", "no state", "gradients"])
def test_other_cases_are_left_to_transformers(case):
    qkv, options, state = problem(tokens=3 if case == "longer" else 1)
    before = state.clone()
    given = None if case == "no state" else state
    with torch.set_grad_enabled(case == "gradients"):
        expected = _reference(*qkv, **options, initial_state=given)
        actual = one_token(*qkv, **options, initial_state=given)
    torch.testing.assert_close(actual, expected)
    assert torch.equal(state, before)


def test_a_tuned_model_generates_the_same(monkeypatch):
    monkeypatch.setattr(modeling_qwen3_5, "torch_recurrent_gated_delta_rule", _reference)
    model = tiny.loaded("hybrid").model
    ids = torch.randint(10, 200, (2, 20), generator=torch.Generator().manual_seed(0))
    expected = model.generate(ids, max_new_tokens=20, do_sample=False)
    tune_for_cpu(model)
    assert modeling_qwen3_5.torch_recurrent_gated_delta_rule is one_token
    assert torch.equal(model.generate(ids, max_new_tokens=20, do_sample=False), expected)


def test_a_renamed_rule_is_left_alone(monkeypatch, caplog):
    monkeypatch.setattr(modeling_qwen3_5, "torch_recurrent_gated_delta_rule", _reference)
    monkeypatch.setattr(delta, "_reference", None)
    delta.use_in_place_step()
    assert modeling_qwen3_5.torch_recurrent_gated_delta_rule is _reference
    assert "slower" in caplog.text
