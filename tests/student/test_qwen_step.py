"""Our own step of a Qwen3.5 gives the hidden states of transformers' forward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.cache_utils import DynamicCache, LinearAttentionLayer

from zppo.student.attention import share_attention
from zppo.student.decoding import RepeatedRows, branch, own_step
from zppo.student.qwen_step import QwenRows, can_step

#: Fewer key heads than query and value heads; a quarter of a head rotates, as in the 0.8B.
GROUPED = {
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 12,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25,
                        "mrope_section": [1, 1, 0], "mrope_interleaved": True},
}  # fmt: skip
#: As many key heads as others; the whole head rotates, as in the lab's student.
PLAIN = {
    "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0,
                        "mrope_section": [2, 1, 1], "mrope_interleaved": True},
}  # fmt: skip


def model_of(changes: dict, dtype: torch.dtype = torch.float32):
    config = AutoConfig.for_model(
        "qwen3_5_text", vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=4,
        layer_types=["linear_attention", "full_attention"] * 2, pad_token_id=0, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    for parameter in model.parameters():  # norms start at zero, and weights so small
        nn.init.normal_(parameter, std=0.3)
    return model.to(dtype)


@torch.no_grad()
def sampled_states(model, shared: bool) -> tuple[object, torch.Tensor]:
    """Hidden states of 70 tokens a row: past the room for keys, twice, with rows and a prompt
    leaving."""
    config = model.config
    if shared:
        share_attention(config)
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(3, 50, (3, 9), generator=generator)
    tokens = torch.randint(3, 50, (6, 70), generator=generator)
    mask = torch.ones_like(prompts)
    mask[1, :4] = 0
    mask[2, :7] = 0  # shorter than the convolution's window
    owner = torch.tensor([0, 0, 0, 1, 2, 2])
    cache = DynamicCache(config=config)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    model(input_ids=prompts, attention_mask=mask, position_ids=positions, past_key_values=cache)
    rows = branch(model, own_step(model), cache, mask, owner, 70)
    place = mask.sum(-1)[owner]
    states = []
    for t in range(70):
        if t in (5, 36):
            kept = torch.tensor([0, 2, 4, 5]) if t == 5 else torch.tensor([2, 3])
            rows.keep(kept)
            place, tokens = place[kept], tokens[kept]
        states.append(rows.next(tokens[:, t], place[:, None] + t))
    return rows, torch.cat(states)


@pytest.mark.parametrize("changes", [GROUPED, PLAIN], ids=["grouped", "plain"])
def test_hidden_states_are_those_of_transformers(changes):
    plain, expected = sampled_states(model_of(changes), shared=False)
    ours, actual = sampled_states(model_of(changes), shared=True)
    assert isinstance(plain, RepeatedRows)
    assert isinstance(ours, QwenRows)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=2e-5)
    assert (actual - expected).norm() < 5e-6 * expected.norm()


def test_in_bf16_it_is_as_near_to_fp32_as_transformers_is():
    _, exact = sampled_states(model_of(GROUPED), shared=False)
    off = []
    for shared in (False, True):
        _, states = sampled_states(model_of(GROUPED, torch.bfloat16), shared)
        assert states.dtype == torch.bfloat16
        off.append(float((states.float() - exact).norm() / exact.norm()))
    assert off[1] < 1.2 * off[0]


def test_layers_that_are_not_plain_are_left_to_transformers():
    model = model_of(PLAIN)
    assert can_step(model, DynamicCache(config=model.config).layers)
    older = object.__new__(LinearAttentionLayer)  # up to 5.18 it has no `number_of_states`
    assert not can_step(model, [older])
    adapted = model_of(PLAIN)
    adapted.layers[1].mlp.up_proj = nn.Sequential(adapted.layers[1].mlp.up_proj)
    assert not can_step(adapted, [])
    biased = model_of(PLAIN | {"attention_bias": True})
    assert not can_step(biased, [])
    scaled = PLAIN["rope_parameters"] | {"rope_type": "linear", "factor": 2.0}
    assert not can_step(model_of(PLAIN | {"rope_parameters": scaled}), [])

    class Own(nn.Linear):
        pass

    other = model_of(PLAIN)
    other.layers[0].mlp.up_proj = Own(24, 40, bias=False)
    assert not can_step(other, [])


def test_other_models_are_left_to_transformers():
    config = AutoConfig.for_model(
        "llama", vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    assert not can_step(AutoModel.from_config(config), [])
