"""One distillation update: the gradient of the written-out loss, whatever the split."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import tiny
from tests.student.test_update import make_groups
from zppo.config import LocalTeacherConfig
from zppo.errors import RunError
from zppo.student.losses import sampling_logits
from zppo.teacher.local import LocalTeacher
from zppo.types import Group


def teacher(kind: tiny.Kind, dtype: torch.dtype = torch.float32) -> LocalTeacher:
    options = LocalTeacherConfig(model="tiny")
    return LocalTeacher(tiny.loaded(kind, seed=3, dtype=dtype), tiny.config(), options)


def uneven(kind: tiny.Kind) -> list[Group]:
    """Groups of four, one and two rollouts, as correct teacher rollouts may come."""
    groups = make_groups(tiny.student(kind), kind)
    return [replace(g, rollouts=g.rollouts[:n]) for g, n in zip(groups, (4, 1, 2), strict=True)]


def written_out(student, teacher: LocalTeacher, groups, temperature: float = 1.0):
    """sum_g 1/n_g sum JSD / sum_g 1/n_g |y|, one response at a time, by plain forward passes."""
    total, weight = torch.zeros(()), 0.0
    for group in groups:
        encoded = student.encoder.encode(group.prompt)
        for rollout in group.rollouts:
            ids = torch.from_numpy(rollout.response.token_ids)[None]
            logs = []
            for side in (student, teacher):
                batch = side.encoder.collate([encoded], "cpu")
                model = side.loaded.model
                out = model(**batch.followed_by(ids, torch.ones_like(ids)), use_cache=False)
                at = out.logits[0, -ids.shape[1] - 1 : -1]
                logits = sampling_logits(at, temperature, student.encoder.placeholder_ids)
                logs.append(logits.clamp(min=-1e30).log_softmax(-1))
            q, p = logs[0], logs[1].detach()
            m = torch.logaddexp(p, q) - np.log(2)
            jsd = ((p.exp() * (p - m)).sum(-1) + (q.exp() * (q - m)).sum(-1)) / 2
            total = total + jsd.sum() / len(group.rollouts)
            weight += ids.shape[1] / len(group.rollouts)
    return total / weight


@pytest.mark.parametrize("kind, temperature", [("llama", 0.7), ("hybrid", 1.0), ("vlm", 0.7)])
def test_loss_and_gradient_are_those_of_the_written_out_form(kind, temperature):
    groups, other = uneven(kind), teacher(kind)
    plain = tiny.student(kind)
    expected = written_out(plain, other, groups, temperature)
    expected.backward()
    norm = torch.stack(
        [p.grad.norm() for p in plain.model.parameters() if p.grad is not None]
    ).norm()
    for budget, share in ((1, "true"), (60, "false"), (100_000, "true")):
        student = tiny.student(
            kind,
            f"student.micro_batch_tokens={budget}",
            f"student.share_prompt={share}",
            f"rollout.temperature={temperature}",
            "student.logprob_chunk_tokens=7",
        )
        stats = asyncio.run(student.distill(groups, other))
        assert stats.updates == 1
        np.testing.assert_allclose(stats.metrics["loss"], expected.item(), rtol=1e-4)
        np.testing.assert_allclose(stats.metrics["grad_norm"], norm.item(), rtol=2e-4)


def test_one_optimiser_step_lowers_the_divergence():
    groups, other = uneven("vlm"), teacher("vlm")
    student = tiny.student("vlm", "optimizer.lr=1e-3")
    first = asyncio.run(student.distill(groups, other))
    second = asyncio.run(student.distill(groups, other))
    assert second.metrics["loss"] < first.metrics["loss"]
    steps = {int(s["step"]) for s in student.trainer.optimizer.adamw.state.values()}
    assert steps == {2}


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    groups = uneven("llama")
    other = LocalTeacher(tiny.loaded("llama"), tiny.config(), LocalTeacherConfig(model="tiny"))
    stats = asyncio.run(tiny.student("llama").distill(groups, other))
    assert abs(stats.metrics["loss"]) < 1e-6 and stats.metrics["grad_norm"] < 1e-5


def test_every_group_weighs_as_one_response():
    """The same response twice in a group changes nothing."""
    groups, other = uneven("llama"), teacher("llama")
    twice = [replace(g, rollouts=g.rollouts * 2) for g in groups[1:2]]
    one, two = (
        asyncio.run(tiny.student("llama").distill([groups[0], *rest], other))
        for rest in (groups[1:2], twice)
    )
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(one.metrics[key], two.metrics[key], rtol=1e-5)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16,) * 2, (torch.float32, torch.bfloat16)])
def test_bf16_on_either_side(dtypes):
    groups = uneven("llama")
    exact = asyncio.run(tiny.student("llama").distill(groups, teacher("llama")))
    student = tiny.student("llama", dtype=dtypes[0])
    stats = asyncio.run(student.distill(groups, teacher("llama", dtypes[1])))
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(stats.metrics[key], exact.metrics[key], rtol=0.1)


def test_adapters_and_checkpointed_layers_distil_as_well():
    """The adapters of a fresh LoRA change nothing yet, so the loss is that of the full model."""
    groups, other = uneven("hybrid"), teacher("hybrid")
    full = asyncio.run(tiny.student("hybrid").distill(groups, other))
    recomputing = tiny.student("hybrid", "student.gradient_checkpointing=true")
    again = asyncio.run(recomputing.distill(groups, other))
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(again.metrics[key], full.metrics[key], rtol=1e-5)
    student = tiny.student("hybrid", "student.lora={rank: 4}", "optimizer.lr=0.01")
    before = {n: p.detach().clone() for n, p in student.model.named_parameters()}
    stats = asyncio.run(student.distill(groups, other))
    np.testing.assert_allclose(stats.metrics["loss"], full.metrics["loss"], rtol=1e-5)
    moved = {n for n, p in student.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all("lora" in n for n in moved)


def test_a_token_from_the_padding_of_the_vocabulary_leaves_its_rollout_out():
    """The student's vocabulary may be padded further than the teacher's."""
    groups, other = uneven("llama"), teacher("llama")
    student = tiny.student("llama")
    size = other.vocabulary_size
    student.loaded.model.resize_token_embeddings(size + 8)
    student = type(student)(student.loaded, student.config)
    odd = replace(groups[0].rollouts[1].response, token_ids=np.array([5, size + 3]))
    rollouts = list(groups[0].rollouts)
    rollouts[1] = replace(rollouts[1], response=odd)
    groups[0] = replace(groups[0], rollouts=tuple(rollouts))
    stats = asyncio.run(student.distill(groups, other))
    tokens = [len(r.response.token_ids) for g in groups for r in g.rollouts]
    assert stats.metrics["left_out"] == 1
    assert stats.metrics["tokens_with_gradient"] == sum(tokens) - len(odd.token_ids)


def test_nothing_to_learn_from_takes_an_empty_step():
    student = tiny.student("llama")
    before = [p.detach().clone() for p in student.model.parameters()]
    stats = asyncio.run(student.distill([], teacher("llama")))
    assert stats.updates == 1 and stats.metrics["loss"] == stats.metrics["grad_norm"] == 0.0
    for old, new in zip(before, student.model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_non_finite_values_stop_before_the_optimiser_moves():
    groups, other = uneven("llama"), teacher("llama")
    with torch.no_grad():
        other.loaded.model.get_output_embeddings().weight.fill_(torch.nan)
    student = tiny.student("llama")
    before = [p.detach().clone() for p in student.model.parameters()]
    with pytest.raises(RunError, match="loss of the distillation update is nan"):
        asyncio.run(student.distill(groups, other))
    for old, new in zip(before, student.model.parameters(), strict=True):
        assert torch.equal(old, new)
