"""The group sampler against recomputed log-probs, transformers' generate and its warpers."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests import tiny
from zppo.config import RolloutConfig
from zppo.errors import RunError
from zppo.student import sampler
from zppo.student.batching import Piece
from zppo.student.linear import use_onednn
from zppo.student.losses import sampling_logits
from zppo.student.sampler import Sampling, _pick, _SeenTokens, sample_groups, truncate
from zppo.types import Group, Rollout, RolloutStatus


def roll(student, prompts, n, seed=(0,), sampling=None):
    async def collect():
        out = {}
        async for chunk in student.rollout(prompts, n, seed, sampling):
            assert not out.keys() & chunk.keys()
            out |= chunk
        return [out[i] for i in range(len(prompts))]

    return asyncio.run(collect())


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_logprobs_equal_a_forward_pass_over_plain_rows(kind):
    student = tiny.student(kind, "student.share_prompt=false")
    prompts = tiny.prompts(kind)
    groups = roll(student, prompts, 4, (25,))
    encoded = {i: student.encoder.encode(p) for i, p in enumerate(prompts)}
    pieces = [Piece(g, (0, 1, 2, 3), 4 * g) for g in range(len(prompts))]
    responses = [r for group in groups for r in group]
    assert len({len(r.token_ids) for r in responses}) > 1 or kind != "vlm"
    with torch.no_grad():
        values, _ = student.trainer.logprobs(pieces, encoded, responses)
    for row, response in enumerate(responses):
        length = len(response.token_ids)
        assert 1 <= length <= 12
        np.testing.assert_allclose(values[row, :length], response.logprobs, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_greedy_equals_generate(kind):
    student = tiny.student(kind)
    prompts = tiny.prompts(kind)
    for prompt in prompts:
        batch = student.encoder.collate([student.encoder.encode(prompt)], "cpu")
        inputs = batch.model_inputs()
        inputs.pop("position_ids")
        expected = student.model.generate(
            **inputs,
            max_new_tokens=12,
            do_sample=False,
            suppress_tokens=student.encoder.placeholder_ids or None,
        )[0, batch.ids.shape[1] :]
        group = sample_groups(
            student.decoder,
            student.head,
            batch,
            2,
            Sampling(temperature=0.0, max_tokens=12),
            student.loaded.stop_ids,
            student.encoder.placeholder_ids,
            [(0,)],
        )[0]
        for ids in group.token_ids:
            assert ids.tolist() == expected[: len(ids)].tolist()


def test_finished_rows_leave_and_the_rest_is_unharmed():
    """A stop set so large that rows end at many different steps: every log-prob still matches."""
    student = tiny.student("hybrid", "rollout.max_response_tokens=40", "student.share_prompt=false")
    prompts = tiny.prompts("hybrid")
    encoded = [student.encoder.encode(p) for p in prompts]
    stops = list(range(0, len(tiny.tokenizer()), 12))
    groups = sample_groups(
        student.decoder,
        student.head,
        student.encoder.collate(encoded, "cpu"),
        8,
        Sampling(max_tokens=40),
        stops,
        [],
        [(3, i) for i in range(len(prompts))],
    )
    lengths = [len(ids) for g in groups for ids in g.token_ids]
    assert len(set(lengths)) > 5
    for g in groups:
        for ids, finished in zip(g.token_ids, g.finished, strict=True):
            assert finished == (ids[-1] in stops)
            assert not set(ids[:-1].tolist()) & set(stops)
            assert finished or len(ids) == 40
    from zppo.types import Response

    responses = [
        Response(i, lp, "", True)
        for g in groups
        for i, lp in zip(g.token_ids, g.logprobs, strict=True)
    ]
    pieces = [Piece(g, tuple(range(8)), 8 * g) for g in range(3)]
    with torch.no_grad():
        values, _ = student.trainer.logprobs(pieces, dict(enumerate(encoded)), responses)
    for row, response in enumerate(responses):
        np.testing.assert_allclose(
            values[row, : len(response.token_ids)], response.logprobs, atol=1e-4
        )


def tied(kind):
    """A student whose layers run through oneDNN on any CPU, its LM head tied to its embedding."""
    student = tiny.student(kind, "student.share_prompt=false")
    student.head.weight = student.decoder.get_input_embeddings().weight
    use_onednn(student.model)
    return student


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_packed_weights_sample_the_same(kind, monkeypatch):
    student, prompts = tied(kind), tiny.prompts(kind)
    packed = [r for g in roll(student, prompts, 4) for r in g]
    monkeypatch.setattr(sampler, "packed_weights", lambda *models: nullcontext())
    plain = [r for g in roll(student, prompts, 4) for r in g]
    for a, b in zip(packed, plain, strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "hybrid"])
def test_a_rollout_after_an_update_is_of_the_new_weights(kind):
    student, prompts = tied(kind), tiny.prompts(kind)
    encoded = {i: student.encoder.encode(p) for i, p in enumerate(prompts)}
    pieces = [Piece(g, (0, 1, 2, 3), 4 * g) for g in range(len(prompts))]

    def rolled_and_recomputed():
        groups = roll(student, prompts, 4, (5,))
        responses = [r for group in groups for r in group]
        with torch.no_grad():
            values, _ = student.trainer.logprobs(pieces, encoded, responses)
        for row, response in enumerate(responses):
            length = len(response.token_ids)
            np.testing.assert_allclose(values[row, :length], response.logprobs, atol=1e-4)
        return groups, values

    groups, before = rolled_and_recomputed()
    learnt = [
        Group(p, tuple(Rollout(r, 0.0, RolloutStatus.GRADED) for r in responses))
        for p, responses in zip(prompts, groups, strict=True)
    ]
    advantages = np.tile([1.0, -1.0], 2 * len(prompts))
    asyncio.run(student.update(learnt, advantages, 1, (0,)))
    _, after = rolled_and_recomputed()
    assert abs(float(before[0, 0] - after[0, 0])) > 1e-3


def test_samples_follow_the_model_distribution():
    student = tiny.student("llama")
    batch = student.encoder.collate([student.encoder.encode(tiny.prompts("llama")[0])], "cpu")
    groups = sample_groups(
        student.decoder, student.head, batch, 20_000, Sampling(max_tokens=1), [], [],
        [(0,)],
    )  # fmt: skip
    with torch.no_grad():
        hidden = student.decoder(**batch.model_inputs()).last_hidden_state[:, -1]
        probs = student.head(hidden).softmax(-1)[0].numpy()
    counts = np.bincount([int(i[0]) for i in groups[0].token_ids], minlength=len(probs))
    top = np.argsort(-probs)[:20]
    expected = probs[top] * 20_000
    assert np.all(np.abs(counts[top] - expected) < 5 * np.sqrt(expected) + 5)


def test_placeholders_are_never_sampled():
    student = tiny.student("vlm", "rollout.max_response_tokens=64")
    banned = set(student.encoder.placeholder_ids)
    vocab = tiny.tokenizer().get_vocab()
    assert {vocab["<|image_pad|>"], vocab["<|video_pad|>"]} <= banned
    with torch.no_grad():  # make the model long for them
        student.head.weight[list(banned)] = student.head.weight.abs().max() * 10
    for group in roll(student, tiny.prompts("vlm"), 8):
        for response in group:
            assert not banned & set(response.token_ids.tolist())
            assert np.isfinite(response.logprobs).all()


def test_seeds_decide_everything():
    prompts = tiny.prompts("llama")
    one, two, other = (
        [r.token_ids.tolist() for g in roll(tiny.student("llama"), prompts, 3, seed) for r in g]
        for seed in ((0, 1), (0, 1), (0, 2))
    )
    assert one == two
    assert one != other


def test_budget_splits_prompts_into_chunks_without_losing_any():
    student = tiny.student("llama", "student.sampler_batch_tokens=200")

    async def sizes():
        return [len(c) async for c in student.rollout(tiny.prompts("llama"), 4, (0,))]

    assert len(asyncio.run(sizes())) > 1
    assert len(roll(student, tiny.prompts("llama"), 4)) == 3


@pytest.mark.parametrize(
    "sampling, warper",
    [
        (Sampling(top_k=5), TopKLogitsWarper(5)),
        (Sampling(top_p=0.7), TopPLogitsWarper(0.7)),
        (Sampling(min_p=0.2), MinPLogitsWarper(0.2)),
    ],
)
def test_truncation_equals_transformers(sampling, warper):
    logits = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 2
    ours = truncate(logits, sampling)
    theirs = warper(torch.zeros(64, 0, dtype=torch.long), logits)
    assert torch.equal(ours.isinf(), theirs.isinf())


def test_penalties_look_at_generated_tokens():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    seen = _SeenTokens(Sampling(presence_penalty=1.5, repetition_penalty=2.0), 1)
    torch.testing.assert_close(seen.penalise(logits), logits)
    seen.add(torch.tensor([0]))
    seen.add(torch.tensor([1]))
    torch.testing.assert_close(seen.penalise(logits), torch.tensor([[-0.5, -3.5, 0.5]]))
    repeated = RepetitionPenaltyLogitsProcessor(2.0)(torch.tensor([[0, 1]]), logits)
    only = _SeenTokens(Sampling(repetition_penalty=2.0), 1)
    only.penalise(logits)
    only.add(torch.tensor([0]))
    only.add(torch.tensor([1]))
    torch.testing.assert_close(only.penalise(logits), repeated)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 2.0])
def test_penalties_are_those_of_the_logits_before_the_temperature(temperature):
    """As vLLM and the OpenAI API define them: penalise first, then divide."""
    raw = torch.tensor([[2.0, -1.0, 0.5]])
    rule = Sampling(temperature=temperature, presence_penalty=1.5, repetition_penalty=2.0)
    seen = _SeenTokens(rule, 1)
    divisor = temperature or 1.0
    seen.penalise(raw / divisor)
    seen.add(torch.tensor([0]))
    expected = torch.tensor([[2.0 / 2.0 - 1.5, -1.0, 0.5]]) / divisor
    torch.testing.assert_close(seen.penalise(raw / divisor), expected)


def test_sampling_override_is_used():
    student = tiny.student("llama")
    short = RolloutConfig(max_response_tokens=2)
    assert all(
        len(r.token_ids) <= 2
        for g in roll(student, tiny.prompts("llama"), 2, (0,), short)
        for r in g
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_rare_tokens_and_banned_ones_in_a_large_vocabulary(compiled):
    """Frequencies over many blocks of the vocabulary follow the softmax; -inf is never drawn."""
    logits = torch.randn(1, 3_000, generator=torch.Generator().manual_seed(1)) * 2
    logits[0, ::3] = float("-inf")
    n = 60_000
    points = torch.rand(n, 1, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    if compiled:
        parts = [
            sampler._draw_plain(logits.repeat(len(p), 1), p, 1.0, []) for p in points.split(4_000)
        ]
        token, logprob = (torch.cat(x) for x in zip(*parts, strict=True))
        torch.testing.assert_close(logprob, logits.log_softmax(-1)[0, token])
    else:
        token, total = _pick(logits.expand(n, -1), points)
        torch.testing.assert_close(total[0], logits.logsumexp(-1)[0])
    probs = logits.softmax(-1)[0].double()
    counts = torch.bincount(token, minlength=3_000).double()
    assert counts[::3].sum() == 0
    # Pearson's statistic over bins of ten tokens: mean = degrees of freedom, sd = sqrt(2 df).
    seen, expected = (x.view(-1, 10).sum(-1) for x in (counts, probs * n))
    statistic = float(((seen - expected) ** 2 / expected).sum())
    assert abs(statistic - 299) < 5 * np.sqrt(2 * 299)


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=3), Sampling(0.0, max_tokens=3)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_model_is_named(sampling, bad):
    """Logits that are no numbers reach no index: on a GPU that would end the process."""
    student = tiny.student("llama")
    with torch.no_grad():
        student.head.weight[7] = bad
    with pytest.raises(RunError, match="not finite"):
        sample_groups(
            student.decoder,
            student.head,
            student.encoder.collate([student.encoder.encode(tiny.prompt("1 + 1?"))], "cpu"),
            2,
            sampling,
            student.loaded.stop_ids,
            student.encoder.placeholder_ids,
            [(0,)],
        )


def test_a_banned_token_outside_of_the_vocabulary_is_named():
    with pytest.raises(IndexError, match="token 9 in a vocabulary of 5"):
        sampler._draw_plain(torch.zeros(1, 5), torch.zeros(1, 1, dtype=torch.double), 1.0, [2, 9])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("size", [700, 256, 3])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_draw_inverts_the_cumulative_distribution(compiled, size, temperature):
    generator = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(200, size, generator=generator)
    logits[:, 1::3] = -torch.inf
    logits[3] -= 300.0
    points = torch.rand(200, 1, dtype=torch.double, generator=generator)
    points[0], points[1] = 0.0, 1.0 - 2.0**-53
    wanted = sampling_logits(logits, temperature, [0]).double()
    if compiled:
        token, logprob = sampler._draw_plain(logits.clone(), points, temperature, [0])
    else:
        token, logprob = sampler._draw_at(
            logits, points, Sampling(temperature), [0], _SeenTokens(Sampling(), 200)
        )
    after = wanted.softmax(-1).cumsum(-1).gather(-1, token[:, None])
    chance = wanted.log_softmax(-1).gather(-1, token[:, None])
    assert bool((after > points - 1e-6).all() and (after - chance.exp() <= points + 1e-6).all())
    torch.testing.assert_close(logprob.double(), chance.squeeze(-1), atol=5e-5, rtol=1e-5)
    assert bool(logprob.isfinite().all())  # neither banned nor -inf
