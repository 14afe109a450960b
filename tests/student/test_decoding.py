"""Sampling with the prompt held once gives what sampling with the prompt repeated gives."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests import tiny
from zppo.student.attention import (
    MODEL_TYPES,
    Branches,
    Layout,
    attention,
    can_share_attention,
    share_attention,
    shares_attention,
)
from zppo.student.decoding import RepeatedRows, SharedRows, branch
from zppo.student.sampler import Sampling, sample_groups


def sample(student, kind, seed=0):
    """Rows end at many different steps, and whole prompts before others."""
    encoded = [student.encoder.encode(p) for p in tiny.prompts(kind)]
    return sample_groups(
        student.decoder,
        student.head,
        student.encoder.collate(encoded, "cpu"),
        5,
        Sampling(max_tokens=150),
        list(range(0, len(tiny.tokenizer()), 12)),
        student.encoder.placeholder_ids,
        [(seed, i) for i in range(len(encoded))],
    )


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_shared_prompts_give_the_tokens_of_repeated_ones(kind):
    shared, repeated = tiny.student(kind), tiny.student(kind)
    repeated.model.config.get_text_config()._attn_implementation = "sdpa"
    ours, theirs = sample(shared, kind), sample(repeated, kind)
    lengths = [len(ids) for g in ours for ids in g.token_ids]
    assert len(set(lengths)) > 5
    for a, b in zip(ours, theirs, strict=True):
        assert [i.tolist() for i in a.token_ids] == [i.tolist() for i in b.token_ids]
        for x, y in zip(a.logprobs, b.logprobs, strict=True):
            torch.testing.assert_close(torch.from_numpy(x), torch.from_numpy(y), atol=1e-4, rtol=0)


@pytest.mark.parametrize("model_type", sorted(t for t in MODEL_TYPES if not t.endswith("_text")))
def test_every_text_model_on_the_list(model_type):
    """Padded prompts, ragged rows, two steps: the logits of the repeated prompt."""
    size = {"num_key_value_heads": 2, "num_attention_heads": 4, "head_dim": 8, "hidden_size": 32}
    config = AutoConfig.for_model(
        model_type, vocab_size=50, intermediate_size=48, num_hidden_layers=2, **size,
        sliding_window=None, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    assert can_share_attention(config)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().model
    check_decoding(model, config)


@pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl"])
def test_every_vision_model_on_the_list(model_type):
    size = {"num_key_value_heads": 2, "num_attention_heads": 4, "hidden_size": 32}
    text = {"vocab_size": 50, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8} | size
    text["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 1, 1]}
    config = AutoConfig.for_model(model_type, text_config=text).get_text_config()
    assert can_share_attention(config)
    from transformers import AutoModel

    torch.manual_seed(0)
    check_decoding(AutoModel.from_config(config).eval(), config)


@torch.no_grad()
def check_decoding(model, config):
    prompts = torch.randint(3, 50, (2, 6))
    mask = torch.ones_like(prompts)
    mask[1, :2] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    owner = torch.tensor([0, 0, 0, 1])
    tokens = torch.randint(3, 50, (4, 3))

    def run():
        from transformers.cache_utils import DynamicCache

        cache = DynamicCache(config=config)
        inputs = {"input_ids": prompts, "attention_mask": mask, "position_ids": positions}
        model(**inputs, past_key_values=cache, use_cache=True)
        rows = branch(model, None, cache, mask, owner, 3)
        hidden, place = [], mask.sum(-1)[owner]
        for t in range(3):
            hidden.append(rows.next(tokens[:, t], place[:, None] + t))
        return rows, torch.stack(hidden, 1)

    config._attn_implementation = "sdpa"
    plain, expected = run()
    share_attention(config)
    shared, actual = run()
    assert isinstance(plain, RepeatedRows) and isinstance(shared, SharedRows)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_other_models_keep_their_own_cache():
    config = AutoConfig.for_model("gemma2")
    assert not can_share_attention(config) and not shares_attention(config)


def test_layout_spreads_rows_over_a_grid_and_back():
    owner = torch.tensor([0, 0, 2, 2, 2])
    layout = Layout.of(owner, 3)
    assert (layout.prompts, layout.width) == (3, 3)
    rows = torch.arange(5 * 2 * 3 * 4.0).view(5, 2, 3, 4)
    grid = layout.by_prompt(rows)
    assert grid.shape == (3, 2, 9, 4) and grid[1].abs().sum() == 0
    torch.testing.assert_close(grid[2, 1, 3:6], rows[3, 1])
    torch.testing.assert_close(layout.by_row(grid), rows)


def test_attention_that_is_not_plain_softmax_is_refused():
    from zppo.errors import ModelError

    keys = torch.zeros(1, 1, 2, 4)
    past = Branches(keys, keys, None, ((keys, keys),), 2, Layout(1, 1))
    with torch.no_grad(), pytest.raises(ModelError, match="softcap"):
        attention(torch.nn.Identity(), torch.zeros(1, 1, 1, 4), past, None, None, softcap=30.0)
