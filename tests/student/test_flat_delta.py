"""The delta rule in a flat pass gives what transformers' layer gives for each
response after its prompt, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig
from transformers.cache_utils import Cache
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from zppo.student import flat_delta
from zppo.student.flat import FlatPass
from zppo.student.flat_delta import FlatLinear, run_flat, runs_flat

OWNER, LENGTHS = [0, 0, 1, 2, 2, 2], [9, 70, 33, 1, 18, 32]
PROMPTS = [2, 6, 40]  # one shorter than the convolution's window, one of more than two chunks


def made(key_heads: int) -> Qwen3_5GatedDeltaNet:
    config = AutoConfig.for_model(
        "qwen3_5_text", hidden_size=12, linear_num_key_heads=key_heads, linear_num_value_heads=4,
        linear_key_head_dim=8, linear_value_head_dim=6, layer_types=["linear_attention"],
        num_hidden_layers=1, hidden_act="silu",
    )  # fmt: skip
    torch.manual_seed(0)
    layer = Qwen3_5GatedDeltaNet(config, 0)
    for name, parameter in layer.named_parameters():
        if name != "A_log":
            nn.init.normal_(parameter, std=0.5)
    return layer


def inputs() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    prompts, responses = (
        [torch.randn(n, 12, generator=generator, requires_grad=True) for n in lengths]
        for lengths in (PROMPTS, LENGTHS)
    )
    return prompts, responses


def gradients(layer, prompts, responses, outputs):
    loss = sum((o * torch.linspace(-1, 2, o.numel()).view(o.shape)).sum() for o in outputs)
    return torch.autograd.grad(loss, [*prompts, *responses, *layer.parameters()])


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("chunk", [16, 32])
@pytest.mark.parametrize("classes", [[[0, 1, 2, 3, 4, 5]], [[3], [0, 4], [5, 2], [1]]])
@pytest.mark.parametrize("adapted", [False, True])
def test_output_and_gradients(monkeypatch, key_heads, chunk, classes, adapted):
    monkeypatch.setattr(flat_delta, "CHUNK_OF_SMALL_HEADS", chunk)
    layer = made(key_heads)
    if adapted:  # projections that are no plain linear layers, as those of LoRA
        layer.in_proj_b = nn.Sequential(layer.in_proj_b)
    prompts, responses = inputs()
    expected = [
        layer(torch.cat([prompts[p], r])[None])[0, len(prompts[p]) :]
        for p, r in zip(OWNER, responses, strict=True)
    ]
    wanted = gradients(layer, prompts, responses, expected)

    run_flat(layer)
    rows = FlatPass(PROMPTS, classes, LENGTHS, OWNER, torch.device("cpu"))
    hidden = torch.cat(prompts + [
        nn.functional.pad(responses[r], (0, 0, 0, block.length - LENGTHS[r]), value=7.0)
        for block in rows.responses.blocks
        for r in block.members
    ])  # fmt: skip
    out = layer(hidden[None], cache_params=Cache(layers=[FlatLinear(rows)]))[0]
    for prompt, end in zip(prompts, rows.ends, strict=True):
        of_prompt = layer(prompt[None])[0]
        torch.testing.assert_close(out[end - len(prompt) : end], of_prompt, atol=2e-5, rtol=2e-5)
    starts = [sum(PROMPTS) + s for s in rows.responses.starts]
    actual = [out[s : s + n] for s, n in zip(starts, LENGTHS, strict=True)]
    for a, b in zip(actual, expected, strict=True):
        # As far as transformers' own results with chunks of 16 and of 64 are from each other.
        torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-5)
        assert (a - b).norm() < 2e-5 * b.norm()
    for a, b in zip(gradients(layer, prompts, responses, actual), wanted, strict=True):
        assert (a - b).norm() < 1e-4 * b.norm() + 1e-6


def test_whether_a_model_runs_flat():
    layer = made(4)
    assert not runs_flat(layer)
    run_flat(layer)
    assert runs_flat(layer) and runs_flat(nn.Linear(2, 2))
