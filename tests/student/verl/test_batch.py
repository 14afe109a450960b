"""The batch for verl, cut up as verl cuts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests import tiny
from zppo.student.batching import mini_batches, with_gradient
from zppo.student.losses import policy_loss
from zppo.student.verl.batch import (
    PADDING,
    Arrangement,
    PromptRow,
    arrange,
    forward_inputs,
    loss_inputs,
    response_logprobs,
    sampled_logprobs,
    update_options,
)
from zppo.types import Group, Response, Rollout, RolloutStatus

UPDATES = 4


def make_groups(count: int, size: int = 4, seed: int = 0) -> list[Group]:
    rng = np.random.default_rng(seed)

    def rollout() -> Rollout:
        length = int(rng.integers(1, 30))
        ids = rng.integers(5, 40, length)
        logprobs = -rng.random(length).astype(np.float32)
        return Rollout(Response(ids, logprobs, "", True), 0.0, RolloutStatus.GRADED)

    return [
        Group(tiny.prompt(f"{i}?", name=str(i)), tuple(rollout() for _ in range(size)))
        for i in range(count)
    ]


def make_advantages(groups: Sequence[Group], trivial: float = 0.4, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sizes = [len(g.rollouts) for g in groups]
    flat = np.repeat(rng.random(len(groups)) < trivial, sizes)
    return np.where(flat, 0.0, rng.normal(size=sum(sizes)))


def text_prompts(groups: Sequence[Group]) -> list[PromptRow]:
    return [PromptRow(np.arange(3 + i % 5), None, 3 + i % 5) for i in range(len(groups))]


def arranged(groups: Sequence[Group], advantages: np.ndarray, ranks: int) -> Arrangement:
    lengths = [len(p.ids) for p in text_prompts(groups)]
    return arrange(groups, advantages, lengths, UPDATES, ranks, np.random.default_rng(7))


def as_verl_cuts(rows: np.ndarray, ranks: int) -> list[list[np.ndarray]]:
    """[mini-batch][rank]: verl's contiguous parts a rank, and contiguous mini-batches in each."""
    parts = [np.split(part, UPDATES) for part in np.split(rows, ranks)]
    return [[part[k] for part in parts] for k in range(UPDATES)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 48])
@pytest.mark.parametrize("count", [3, 10, 37])
def test_mini_batches_are_the_embedded_engines(ranks: int, count: int) -> None:
    groups = make_groups(count)
    advantages = make_advantages(groups)
    arrangement = arranged(groups, advantages, ranks)
    expected = mini_batches(groups, UPDATES, np.random.default_rng(7))
    cut = as_verl_cuts(arrangement.rollout, ranks)
    numbers = as_verl_cuts(arrangement.update, ranks)
    for k, pieces in enumerate(expected):
        held = sorted(i for part in cut[k] for i in part.tolist() if i != PADDING)
        assert held == sorted(i for p in with_gradient(pieces, advantages) for i in p.flat)
        assert len({len(part) for part in cut[k]}) == 1
        assert all((part == k).all() for part in numbers[k])
    assert arrangement.mini_batch_rows * UPDATES == len(arrangement.rollout)
    assert update_options(arrangement, 1.0)["mini_batch_size"] % ranks == 0


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_token_mean_of_each_mini_batch_is_exact(ranks: int) -> None:
    """verl's sum over its rows and ranks, divided by its own token count, is the loss over all
    rollouts of the mini-batch, trivial ones included."""
    groups = make_groups(11)
    advantages = make_advantages(groups)
    arrangement = arranged(groups, advantages, ranks)
    old = sampled_logprobs(arrangement, groups)
    assert old is not None
    inputs = forward_inputs(arrangement, groups, text_prompts(groups))
    loss = loss_inputs(arrangement, advantages, old)
    masks, counted = inputs["response_mask"].unbind(), inputs["loss_mask"].unbind()
    logprobs = [row * 1.4 for row in loss["old_log_probs"].unbind()]  # another policy
    responses = [r.response for g in groups for r in g.rollouts]
    rows = as_verl_cuts(np.arange(len(arrangement.rollout)), ranks)
    for k, pieces in enumerate(mini_batches(groups, UPDATES, np.random.default_rng(7))):
        batch = np.concatenate(rows[k])
        tokens = sum(int(counted[i].sum()) for i in batch)
        verl = sum(
            float(
                policy_loss(
                    logprobs[i][None],
                    loss["old_log_probs"].unbind()[i][None],
                    loss["advantages"].unbind()[i][None],
                    masks[i][None].bool(),
                    denominator=tokens,
                )[0]
            )
            for i in batch
        )
        everything = [i for p in pieces for i in p.flat]
        total = sum(len(responses[i].token_ids) for i in everything)
        ours = 0.0
        for i in everything:
            before = torch.from_numpy(responses[i].logprobs)[None]
            gain = torch.full_like(before, advantages[i])
            mask = torch.ones_like(before, dtype=torch.bool)
            ours += float(policy_loss(before * 1.4, before, gain, mask, denominator=total)[0])
        assert verl == pytest.approx(ours, rel=1e-5)


def test_a_mini_batch_without_gradient_still_has_rows_and_tokens() -> None:
    groups = make_groups(4)
    advantages = np.zeros(16)
    advantages[0] = 1.0
    arrangement = arranged(groups, advantages, ranks=2)
    inputs = forward_inputs(arrangement, groups, text_prompts(groups))
    for rows in as_verl_cuts(np.arange(len(arrangement.rollout)), 2):
        masks = [inputs["loss_mask"].unbind()[i] for part in rows for i in part]
        assert sum(int(m.sum()) for m in masks) > 0
    real = [bool(m.all()) for m in inputs["response_mask"].unbind()]
    assert sum(real) == 1


def test_ranks_have_nearly_the_same_work() -> None:
    groups = make_groups(64, size=8)
    arrangement = arranged(groups, make_advantages(groups, trivial=0.0), ranks=8)
    prompts = text_prompts(groups)
    lengths = forward_inputs(arrangement, groups, prompts)["input_ids"].offsets().diff().numpy()
    for parts in as_verl_cuts(lengths, 8):
        work = [int(part.sum()) for part in parts]
        assert max(work) < 1.05 * min(work)


def test_rows_hold_prompt_and_response() -> None:
    groups = make_groups(5)
    advantages = make_advantages(groups)
    arrangement = arranged(groups, advantages, ranks=2)
    prompts = text_prompts(groups)
    inputs = forward_inputs(arrangement, groups, prompts)
    rows = zip(
        arrangement.rollout,
        *(inputs[k].unbind() for k in ("input_ids", "position_ids")),
        strict=True,
    )
    for i, ids, positions in rows:
        if i != PADDING:
            group, place = divmod(int(i), 4)
            response = groups[group].rollouts[place].response.token_ids
            assert ids.tolist() == [*prompts[group].ids, *response]
        assert positions.tolist() == list(range(len(ids)))
    assert "multi_modal_inputs" not in inputs


def test_advantages_and_old_logprobs_are_those_of_the_row() -> None:
    groups = make_groups(6)
    advantages = make_advantages(groups)
    arrangement = arranged(groups, advantages, ranks=3)
    old = sampled_logprobs(arrangement, groups)
    assert old is not None
    loss = loss_inputs(arrangement, advantages, old)
    flat = [r.response for g in groups for r in g.rollouts]
    for row, i in enumerate(arrangement.rollout):
        gain, before = loss["advantages"].unbind()[row], loss["old_log_probs"].unbind()[row]
        if i == PADDING:
            assert not gain.any()
            continue
        assert np.array_equal(before.numpy(), flat[i].logprobs)
        expected = advantages[i] * arrangement.factor[arrangement.update[row]]
        assert gain.numpy() == pytest.approx(np.full(len(before), expected), rel=1e-6)


def test_unknown_logprobs_are_not_made_up() -> None:
    groups = make_groups(4)
    unknown = Response(np.array([1, 2]), None, "", True)
    rollouts = (Rollout(unknown, 0.0, RolloutStatus.GRADED), *groups[0].rollouts[1:])
    groups[0] = Group(groups[0].prompt, rollouts)
    arrangement = arranged(groups, np.ones(16), ranks=1)
    assert sampled_logprobs(arrangement, groups) is None


def test_response_logprobs_are_shifted_by_one() -> None:
    responses = torch.nested.nested_tensor_from_jagged(torch.zeros(5), torch.tensor([0, 2, 5]))
    # rows of 3 + 2 and 1 + 3 tokens
    log_probs = torch.nested.nested_tensor_from_jagged(torch.arange(9.0), torch.tensor([0, 5, 9]))
    first, second = response_logprobs(log_probs, responses)
    assert first.tolist() == [2.0, 3.0]
    assert second.tolist() == [5.0, 6.0, 7.0]


def test_empty_responses_stay_out() -> None:
    groups = make_groups(4)
    nothing = Response(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), "", False)
    rollouts = (Rollout(nothing, 0.0, RolloutStatus.GRADED), *groups[0].rollouts[1:])
    groups[0] = Group(groups[0].prompt, rollouts)
    assert 0 not in arranged(groups, np.ones(16), ranks=2).rollout


def test_fewer_rollouts_than_updates() -> None:
    groups = make_groups(1, size=3)
    with pytest.raises(ValueError, match="3 rollouts"):
        arranged(groups, np.ones(3), ranks=1)


def test_multimodal_positions_and_media() -> None:
    """As the embedded engine's plain rows have them, behind a row of text positions."""
    student = tiny.student("vlm")
    prompts = tiny.prompts("vlm")
    encoded = [student.encoder.encode(p) for p in prompts]
    batches = [student.encoder.collate([e], "cpu") for e in encoded]
    rows = [
        PromptRow(
            e.ids,
            b.positions[:, 0].numpy(),
            int(b.next_position),
            {"pixel_values": e.images} if e.images else None,
        )
        for e, b in zip(encoded, batches, strict=True)
    ]
    groups = [Group(p, g.rollouts) for p, g in zip(prompts, make_groups(3), strict=True)]
    arrangement = arranged(groups, np.ones(12), ranks=2)
    inputs = forward_inputs(arrangement, groups, rows)
    positions = inputs["position_ids"]
    assert positions.dim() == 3 and positions.shape[1] == 4
    ends = positions.offsets().tolist()
    values = positions.values()
    assert values.shape == (4, ends[-1])  # what verl hands to the model, packed
    for row, i in enumerate(arrangement.rollout):
        mine = values[:, ends[row] : ends[row + 1]]
        assert mine[0].tolist() == list(range(mine.shape[1]))
        if i == PADDING:
            continue
        group, place = divmod(int(i), 4)
        response = torch.from_numpy(groups[group].rollouts[place].response.token_ids)[None]
        plain = batches[group].followed_by(response, torch.ones_like(response))
        assert torch.equal(mine[1:], plain["position_ids"][:, 0])
        if rows[group].media is not None:
            assert inputs["multi_modal_inputs"][row] is rows[group].media
    assert sum(bool(media) for media in inputs["multi_modal_inputs"]) == 4
