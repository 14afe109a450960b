"""The update of the embedded engine: any split, exact count, nothing learnt from trivial groups."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from tests import tiny
from tests.student.test_sampler import roll
from zppo.errors import RunError
from zppo.types import Group, Response, Rollout, RolloutStatus

ADVANTAGES = {0: [1.0, -1.0, 0.5, -0.5], 1: [0.0] * 4, 2: [-2.0, 1.0, 1.0, 0.0]}


def make_groups(student, kind):
    prompts = tiny.prompts(kind)
    return [
        Group(p, tuple(Rollout(r, 0.0, RolloutStatus.GRADED) for r in responses))
        for p, responses in zip(prompts, roll(student, prompts, 4), strict=True)
    ]


def update(kind, *overrides, updates=1, dtype=torch.float32, groups=None):
    student = tiny.student(kind, "optimizer.lr=0.01", *overrides, dtype=dtype)
    groups = groups or make_groups(tiny.student(kind, dtype=dtype), kind)
    advantages = np.array([a for g in range(len(groups)) for a in ADVANTAGES[g % 3]])
    stats = asyncio.run(student.update(groups, advantages, updates, (0, 0)))
    return student, stats


def assert_same_weights(a, b, **tolerance):
    for (name, p), (_, q) in zip(
        a.model.named_parameters(), b.model.named_parameters(), strict=True
    ):
        torch.testing.assert_close(p, q, msg=lambda m, name=name: f"{name}: {m}", **tolerance)


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_same_gradient_for_any_micro_batch_split(kind):
    """One SGD-like comparison: the gradient norm to six digits, whatever the token budget."""
    norms = [
        update(kind, f"student.micro_batch_tokens={budget}", f"student.share_prompt={share}")[
            1
        ].metrics["grad_norm"]
        for budget in (1, 60, 100_000)
        for share in ("true", "false")
    ]
    np.testing.assert_allclose(norms, norms[0], rtol=2e-5)
    assert norms[0] > 0


def test_first_update_ratio_is_one_and_the_gap_is_logged():
    _, stats = update("hybrid")
    assert stats.metrics["logprob_gap/max"] < 1e-4
    assert stats.metrics["clip/low"] == stats.metrics["clip/high"] == 0.0
    assert abs(stats.metrics["kl_from_rollout"]) < 1e-6
    # All ratios are one, so the loss is the token-weighted mean of -A.
    groups = make_groups(tiny.student("hybrid"), "hybrid")
    lengths = [len(r.response.token_ids) for g in groups for r in g.rollouts]
    advantages = [a for g in range(3) for a in ADVANTAGES[g]]
    expected = -np.dot(lengths, advantages) / sum(lengths)
    np.testing.assert_allclose(stats.metrics["loss"], expected, atol=1e-4)


def test_trivial_groups_stay_in_the_denominator():
    """Group 1 has zero advantage: with it the loss is smaller by its share of tokens."""
    groups = make_groups(tiny.student("llama"), "llama")
    student = tiny.student("llama")
    tokens = [sum(len(r.response.token_ids) for r in g.rollouts) for g in groups]
    both = asyncio.run(student.update(groups[:2], np.array(ADVANTAGES[0] + [0.0] * 4), 1, (0,)))
    alone = asyncio.run(tiny.student("llama").update(groups[:1], np.array(ADVANTAGES[0]), 1, (0,)))
    ratio = both.metrics["grad_norm"] / alone.metrics["grad_norm"]
    np.testing.assert_allclose(ratio, tokens[0] / (tokens[0] + tokens[1]), rtol=1e-4)
    assert both.metrics["tokens_with_gradient"] == tokens[0]


@pytest.mark.parametrize("updates", [1, 2, 3, 5, 12])
def test_exactly_i_updates_from_any_number_of_groups(updates):
    student, stats = update("llama", updates=updates)
    assert stats.updates == updates
    steps = {int(s["step"]) for s in student.trainer.optimizer.adamw.state.values()}
    assert steps == {updates}


def test_recomputed_old_logprobs_change_nothing_in_fp32():
    _, one = update("llama", updates=3)
    _, two = update("llama", "student.old_logprobs=recompute", updates=3)
    for key in ("loss", "grad_norm", "kl_from_rollout"):
        np.testing.assert_allclose(one.metrics[key], two.metrics[key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_bf16_recomputes_so_that_the_first_ratio_is_one(lora):
    options = ["student.lora={rank: 4}"] if lora else []
    student = tiny.student("llama", *options, dtype=torch.bfloat16)
    groups = make_groups(student, "llama")
    advantages = np.array([a for g in range(3) for a in ADVANTAGES[g]])
    stats = asyncio.run(student.update(groups, advantages, 1, (0,)))
    assert stats.metrics["kl_from_rollout"] == 0.0


def test_unknown_logprobs_are_scored_before_the_first_update():
    student = tiny.student("llama")
    groups = make_groups(student, "llama")
    injected = student.as_response("the answer is 3")
    assert injected.logprobs is None and injected.token_ids[-1] == tiny.tokenizer().eos_token_id
    first = groups[0]
    rollouts = (Rollout(injected, 1.0, RolloutStatus.GRADED, injected=True), *first.rollouts[1:])
    groups[0] = Group(first.prompt, rollouts)
    _, stats = update("llama", groups=groups)
    assert abs(stats.metrics["kl_from_rollout"]) < 1e-6  # its ratio starts at one, too


def test_bf16_moves_although_the_step_is_below_its_resolution():
    groups = make_groups(tiny.student("llama", dtype=torch.bfloat16), "llama")
    student = tiny.student("llama", "optimizer.lr=1e-6", dtype=torch.bfloat16)
    optimizer = student.trainer.optimizer
    before = [m.detach().clone() for m in optimizer.masters]
    advantages = np.array([a for g in range(3) for a in ADVANTAGES[g]])
    stats = asyncio.run(student.update(groups, advantages, 2, (0,)))
    moved = [not torch.equal(b, m) for b, m in zip(before, optimizer.masters, strict=True)]
    assert any(moved) and stats.metrics["grad_norm"] > 0
    for parameter, master in zip(optimizer.params, optimizer.masters, strict=True):
        assert torch.equal(parameter, master.to(torch.bfloat16))


def test_bf16_gradient_is_close_to_fp32():
    groups = make_groups(tiny.student("llama"), "llama")
    _, exact = update("llama", groups=groups)
    _, rounded = update("llama", groups=groups, dtype=torch.bfloat16)
    np.testing.assert_allclose(rounded.metrics["grad_norm"], exact.metrics["grad_norm"], rtol=0.1)


def test_lora_trains_only_adapters(tmp_path):
    student = tiny.student("hybrid", "student.lora={rank: 4}", "optimizer.lr=0.01")
    trainable = [n for n, p in student.model.named_parameters() if p.requires_grad]
    assert trainable and all("lora" in n for n in trainable)
    groups = make_groups(student, "hybrid")
    advantages = np.array([a for g in range(3) for a in ADVANTAGES[g]])
    stats = asyncio.run(student.update(groups, advantages, 2, (0,)))
    assert stats.metrics["logprob_gap/max"] < 1e-4
    student.save(tmp_path)
    again = tiny.student("hybrid", "student.lora={rank: 4}", "optimizer.lr=0.01")
    again.load(tmp_path)
    assert_same_weights(student, again, atol=0, rtol=0)


@pytest.mark.parametrize("kind, dtype", [("vlm", torch.float32), ("llama", torch.bfloat16)])
def test_save_and_load_are_exact(kind, dtype, tmp_path):
    """Two updates, save, load elsewhere, two more: the same weights as four in one go."""
    groups = make_groups(tiny.student(kind, dtype=dtype), kind)
    advantages = np.array([a for g in range(3) for a in ADVANTAGES[g]])
    straight = tiny.student(kind, "optimizer.lr=0.01", dtype=dtype)
    for step in range(2):
        asyncio.run(straight.update(groups, advantages, 2, (step,)))
        if step == 0:
            straight.save(tmp_path)
    resumed = tiny.student(kind, "optimizer.lr=0.01", seed=7, dtype=dtype)
    resumed.load(tmp_path)
    asyncio.run(resumed.update(groups, advantages, 2, (1,)))
    assert_same_weights(straight, resumed, atol=0, rtol=0)


def test_weights_alone_need_no_optimiser(tmp_path):
    """Evaluation and export: neither the file is read nor the masters are made."""
    student, _ = update("llama")
    student.save(tmp_path)
    (tmp_path / "optimizer.pt").unlink()
    other = tiny.student("llama", seed=7)
    other.load(tmp_path, optimizer=False)
    assert_same_weights(student, other, atol=0, rtol=0)
    assert "optimizer" not in vars(other.trainer)
    with pytest.raises(RunError):
        other.load(tmp_path)


def test_checkpoint_loads_with_plain_from_pretrained(tmp_path):
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    student = tiny.student("vlm")
    student.save(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, dict(student.model.named_parameters())[name])
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tiny.tokenizer().chat_template


def test_non_finite_values_stop_before_the_optimiser_moves():
    groups = make_groups(tiny.student("llama"), "llama")
    student = tiny.student("llama")
    before = [p.detach().clone() for p in student.model.parameters()]
    bad = groups[0].rollouts[0].response
    poisoned = Response(bad.token_ids, np.full(len(bad.token_ids), np.nan, np.float32), "", True)
    first = groups[0]
    rollouts = (Rollout(poisoned, 1.0, RolloutStatus.GRADED), *first.rollouts[1:])
    groups[0] = Group(first.prompt, rollouts)
    with pytest.raises(RunError, match="loss of update 1"):
        asyncio.run(student.update(groups, np.array(ADVANTAGES[0] * 3), 1, (0,)))
    for old, new in zip(before, student.model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_all_trivial_groups_leave_fresh_weights_alone():
    groups = make_groups(tiny.student("llama"), "llama")
    student = tiny.student("llama")
    before = [p.detach().clone() for p in student.model.parameters()]
    stats = asyncio.run(student.update(groups, np.zeros(12), 2, (0,)))
    assert stats.metrics["grad_norm"] == 0.0 and stats.updates == 2
    assert stats.metrics["logprob_gap/max"] < 1e-4  # logged in a step without gradient, too
    for old, new in zip(before, student.model.parameters(), strict=True):
        assert torch.equal(old, new)
