"""The vision tower sees each picture once a prompt, not once a rollout."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from tests import tiny
from tests.student.test_sampler import roll
from tests.student.test_update import make_groups

PATCHES = 12 + 16  # of the image and of the video of `tiny.prompts`


def count_patches(student) -> list[int]:
    """Pixel rows of each later call of the vision tower."""
    rows: list[int] = []
    visual = student.decoder.visual
    visual.register_forward_pre_hook(lambda module, args, kwargs: rows.append(
        len(args[0] if args else kwargs["hidden_states"])
    ), with_kwargs=True)  # fmt: skip
    return rows


@pytest.mark.parametrize("n", [1, 4])
def test_the_sampler_encodes_a_prompt_once(n):
    student = tiny.student("vlm")
    rows = count_patches(student)
    roll(student, tiny.prompts("vlm"), n)
    assert sum(rows) == PATCHES


@pytest.mark.parametrize("share, factor", [("true", 1), ("false", 4)])
def test_the_update_encodes_a_prompt_once(share, factor):
    """Plain rows are the form that repeats the picture for each of the four rollouts."""
    student = tiny.student("vlm", f"student.share_prompt={share}", "optimizer.lr=0.01")
    groups = make_groups(student, "vlm")
    rows = count_patches(student)
    advantages = np.array([1.0, -1.0, 0.5, -0.5] * len(groups))
    asyncio.run(student.update(groups, advantages, 1, (0,)))
    assert sum(rows) == factor * PATCHES


def test_a_trivial_group_is_not_encoded_at_all():
    student = tiny.student("vlm")
    groups = make_groups(student, "vlm")[:2]
    rows = count_patches(student)
    asyncio.run(student.update(groups, np.array([1.0, -1.0, 0.5, -0.5] + [0.0] * 4), 1, (0,)))
    assert sum(rows) == 12


@pytest.mark.parametrize("freeze", [True, False])
def test_lora_on_a_vision_model(freeze, tmp_path):
    """Adapters of both towers, or of the language model alone; sampler and trainer agree."""
    overrides = [
        "student.lora={rank: 4}",
        f"student.freeze_vision={str(freeze).lower()}",
        "optimizer.lr=0.01",
    ]
    torch.manual_seed(0)
    student = tiny.student("vlm", *overrides)
    trainable = [n for n, p in student.model.named_parameters() if p.requires_grad]
    assert all("lora" in n for n in trainable)
    assert any("visual" in n for n in trainable) == (not freeze)
    groups = make_groups(student, "vlm")
    before = {n: p.detach().clone() for n, p in student.model.named_parameters()}
    advantages = np.array([1.0, -1.0, 0.5, -0.5] * len(groups))
    stats = asyncio.run(student.update(groups, advantages, 2, (0,)))
    assert stats.metrics["logprob_gap/max"] < 1e-4 and stats.metrics["grad_norm"] > 0
    moved = {n for n, p in student.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and moved <= set(trainable)
    assert any("visual" in n for n in moved) == (not freeze)
    student.save(tmp_path)
    again = tiny.student("vlm", *overrides)
    again.load(tmp_path)
    for (name, one), (_, two) in zip(
        student.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, two), name
