"""Prompt-once training gives the log-probs and gradients of plain rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.cache_utils import LinearAttentionLayer

from tests import tiny
from zppo.errors import ModelError
from zppo.student.batching import Piece
from zppo.student.prefix import length_classes, prompt_cache
from zppo.types import Media, Response

LENGTHS = [[5, 1, 9], [2, 7, 3], [4, 4, 6]]
#: Over several chunks of the delta rule, and prompts with few and with many tokens.
LONG = [[70, 17, 33], [16, 2], [40, 1, 18, 35]]


@pytest.fixture(params=["together", "by length"], autouse=True)
def passes(request, monkeypatch):
    """Responses and prompts together, and each length in a pass, block or grid of its own."""
    if request.param == "by length":
        monkeypatch.setattr("zppo.student.prefix.PASS_TOKENS", {"cpu": 0, "cuda": 0})
        monkeypatch.setattr("zppo.student.flat.GRID_TOKENS", 0)


def logprobs_and_gradients(
    kind, share, lengths, *overrides, repeat_keys=False, prompts=None, dtype=torch.float32
):
    student = tiny.student(
        kind, f"student.share_prompt={str(share).lower()}", *overrides, dtype=dtype
    )
    if repeat_keys:
        student.model.config.get_text_config()._attn_implementation = "sdpa"
    student.model.train()
    prompts = prompts or tiny.prompts(kind)
    encoded = {i: student.encoder.encode(p) for i, p in enumerate(prompts)}
    rng = np.random.default_rng(0)
    flat = [n for group in lengths for n in group]
    responses = [Response(rng.integers(10, 200, n), None, "", True) for n in flat]
    pieces, first = [], 0
    for g, group in enumerate(lengths):
        pieces.append(Piece(g, tuple(range(len(group))), first))
        first += len(group)
    values, mask = student.trainer.logprobs(pieces, encoded, responses)
    weights = torch.linspace(-1, 1, int(mask.sum()))
    (values[mask] * weights).sum().backward()
    gradients = {
        n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None
    }
    return values.detach()[mask], gradients


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp(min=1e-8))


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
@pytest.mark.parametrize("lengths", [LENGTHS, [[5, 1, 9], [2], [4, 6]], LONG])
@pytest.mark.parametrize("repeat_keys", [False, True])
def test_shared_prompt_equals_plain_rows(kind, lengths, repeat_keys):
    """With keys of the prompt read by all its responses, and with keys repeated for each."""
    shared, shared_grads = logprobs_and_gradients(kind, True, lengths, repeat_keys=repeat_keys)
    plain, plain_grads = logprobs_and_gradients(kind, False, lengths)
    torch.testing.assert_close(shared, plain, atol=2e-5, rtol=1e-5)
    assert shared_grads.keys() == plain_grads.keys()
    total = torch.cat([(shared_grads[n] - plain_grads[n]).flatten() for n in plain_grads]).norm()
    norm = torch.cat([plain_grads[n].flatten() for n in plain_grads]).norm()
    assert total / norm < 1e-4
    if kind == "vlm":  # the vision tower learns through the shared prompt, too
        vision = [n for n in plain_grads if "visual" in n]
        assert vision and any(plain_grads[n].abs().max() > 0 for n in vision)
        assert max(relative(shared_grads[n], plain_grads[n]) for n in vision) < 1e-2


def test_media_follow_their_prompts_into_the_order_of_a_flat_pass():
    """Its prompts stand by length, and so do their pixels."""
    prompts = [
        tiny.prompt(
            "A long question about this picture. " * 3, Media("image", (tiny.png(48, 16),))
        ),
        tiny.prompt("Short?", Media("image", (tiny.png(16, 32, 5),))),
        tiny.prompt("One of middling length, with a film.", tiny.VIDEO),
        tiny.prompt("This?", Media("image", (tiny.png(32, 32, 6),))),
    ]
    lengths = [[9, 4], [3, 17], [5, 1], [8, 8]]
    shared, shared_grads = logprobs_and_gradients("vlm", True, lengths, prompts=prompts)
    plain, plain_grads = logprobs_and_gradients("vlm", False, lengths, prompts=prompts)
    torch.testing.assert_close(shared, plain, atol=2e-5, rtol=1e-5)
    for name, gradient in plain_grads.items():
        assert relative(shared_grads[name], gradient) < 1e-2 or gradient.norm() < 1e-6


@pytest.mark.parametrize("kind", ["llama", "hybrid"])
def test_in_bf16_it_is_as_near_to_fp32_as_plain_rows_are(kind):
    exact, _ = logprobs_and_gradients(kind, False, LONG)
    off = []
    for share in (True, False):
        values, _ = logprobs_and_gradients(kind, share, LONG, dtype=torch.bfloat16)
        off.append(float((values - exact).norm()))
    assert off[0] < 1.2 * off[1]


def test_a_torch_without_the_kernel_repeats_keys(monkeypatch):
    expected, _ = logprobs_and_gradients("llama", True, LENGTHS, repeat_keys=True)
    monkeypatch.setattr("zppo.student.attention._KERNELS", ("no_such_kernel",))
    monkeypatch.setattr("zppo.student.attention._flash", None)
    values, _ = logprobs_and_gradients("llama", True, LENGTHS)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["llama", "hybrid"])
@pytest.mark.parametrize("lengths", [[[1, 1], [1], [1]], [[2, 1], [2], [1]], [[1], [1], [2]]])
def test_very_short_responses(kind, lengths):
    shared, shared_grads = logprobs_and_gradients(kind, True, lengths)
    plain, plain_grads = logprobs_and_gradients(kind, False, lengths)
    torch.testing.assert_close(shared, plain, atol=2e-5, rtol=1e-5)
    for name, gradient in plain_grads.items():
        torch.testing.assert_close(shared_grads[name], gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
@pytest.mark.parametrize("share", [True, False])
def test_gradient_checkpointing_changes_nothing(kind, share):
    expected, expected_grads = logprobs_and_gradients(kind, share, LENGTHS)
    values, grads = logprobs_and_gradients(
        kind, share, LENGTHS, "student.gradient_checkpointing=true"
    )
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=1e-6)
    assert grads.keys() == expected_grads.keys()
    for name, gradient in expected_grads.items():
        torch.testing.assert_close(grads[name], gradient, atol=1e-5, rtol=1e-4)


def test_linear_attention_of_an_older_transformers_is_refused(monkeypatch):
    older = object.__new__(LinearAttentionLayer)  # up to 5.18 it has no `number_of_states`
    monkeypatch.setattr("zppo.student.prefix._layers_of", lambda config: [older])
    with pytest.raises(ModelError, match=r"transformers 5\.19"):
        prompt_cache(tiny.loaded("hybrid").model.config)


def padded(classes, lengths, pass_tokens):
    return sum(len(c) * max(lengths[i] for i in c) + pass_tokens for c in classes)


@pytest.mark.parametrize("pass_tokens", [0, 3, 20, 1_000])
def test_classes_of_lengths_pad_least(pass_tokens):
    rng = np.random.default_rng(pass_tokens)
    for _ in range(20):
        lengths = rng.integers(1, 40, 7).tolist()
        classes = length_classes(lengths, pass_tokens)
        assert sorted(i for c in classes for i in c) == list(range(7))
        order = np.argsort(lengths)
        every_cut = (  # an optimum never has a longer response in a shorter one's class
            [part.tolist() for part in np.split(order, np.flatnonzero(cuts) + 1)]
            for cuts in np.ndindex(*(2,) * 6)
        )
        least = min(padded(c, lengths, pass_tokens) for c in every_cut)
        assert padded(classes, lengths, pass_tokens) == least


def test_responses_of_one_length_run_together_in_their_order():
    assert length_classes([4, 4, 4], 1) == [[0, 1, 2]]
    assert length_classes([100, 3, 100, 2], 10) == [[1, 3], [0, 2]]
