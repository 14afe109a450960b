"""CPU settings reach the layers and change no result."""

from __future__ import annotations

import torch
from transformers.models.qwen3_5 import modeling_qwen3_5

from tests import tiny
from zppo.student.cpu import DELTA_CHUNK, tune_for_cpu


def test_the_delta_rule_runs_in_shorter_chunks(monkeypatch):
    model = tiny.loaded("hybrid").model
    ids = torch.randint(10, 200, (2, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    sizes: list[int] = []
    rule = modeling_qwen3_5.torch_chunk_gated_delta_rule

    def watched(*args, **kwargs):
        sizes.append(kwargs["chunk_size"])
        return rule(*args, **kwargs)

    monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", watched)
    tune_for_cpu(model)
    with torch.no_grad():
        actual = model(input_ids=ids).logits
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
        model.generate(ids, max_new_tokens=3, do_sample=False)  # single steps take it, too
    assert sizes and set(sizes) == {DELTA_CHUNK}
