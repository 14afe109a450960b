"""The batch for verl, cut up as verl cuts it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

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
    Rows,
    arrange,
    deal,
    forward_inputs,
    loss_inputs,
    response_logprobs,
    update_options,
)
from zppo.student.verl.prompts import ServerMedia, StepPrompts
from zppo.types import Group, Response, Rollout, RolloutStatus

UPDATES = 4
ANY_MEDIA = ServerMedia((0, 10**9), (0, 10**9), "vllm")


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


def long_response() -> Response:
    return Response(np.full(500, 7), np.zeros(500, dtype=np.float32), "", True)


def dealt_out(
    groups: Sequence[Group], advantages: np.ndarray, ranks: int
) -> tuple[Arrangement, list[Rows]]:
    prompts = text_prompts(groups)
    lengths = [len(p.ids) for p in prompts]
    rng = np.random.default_rng(7)
    arrangement = arrange(groups, advantages, lengths, UPDATES, ranks, rng)
    return arrangement, deal(arrangement, groups, prompts, advantages)


def as_verl_cuts(rows: np.ndarray, ranks: int) -> list[list[np.ndarray]]:
    """[mini-batch][rank]: verl's contiguous parts a rank, and contiguous mini-batches in each."""
    parts = [np.split(part, UPDATES) for part in np.split(rows, ranks)]
    return [[part[k] for part in parts] for k in range(UPDATES)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 48])
@pytest.mark.parametrize("count", [3, 10, 37])
def test_mini_batches_are_the_embedded_engines(ranks: int, count: int) -> None:
    groups = make_groups(count)
    advantages = make_advantages(groups)
    arrangement, _ = dealt_out(groups, advantages, ranks)
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
    arrangement, dealt = dealt_out(groups, advantages, ranks)
    rows: list[dict[str, torch.Tensor]] = []
    for part in dealt:
        assert part.logprobs is not None
        tensors = forward_inputs(part) | loss_inputs(part, part.logprobs)
        names = ("response_mask", "loss_mask", "advantages", "old_log_probs")
        columns = zip(*(tensors[name].unbind() for name in names), strict=True)
        rows += [dict(zip(names, row, strict=True)) for row in columns]
    responses = [r.response for g in groups for r in g.rollouts]
    numbers = as_verl_cuts(np.arange(len(rows)), ranks)
    for k, pieces in enumerate(mini_batches(groups, UPDATES, np.random.default_rng(7))):
        batch = [rows[i] for i in np.concatenate(numbers[k])]
        tokens = sum(int(row["loss_mask"].sum()) for row in batch)
        verl = sum(
            float(
                policy_loss(
                    row["old_log_probs"][None] * 1.4,  # another policy
                    row["old_log_probs"][None],
                    row["advantages"][None],
                    row["response_mask"][None].bool(),
                    denominator=tokens,
                )[0]
            )
            for row in batch
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
    assert arrangement.updates == UPDATES


def test_a_mini_batch_without_gradient_still_has_rows_and_tokens() -> None:
    groups = make_groups(4)
    advantages = np.zeros(16)
    advantages[0] = 1.0
    _, dealt = dealt_out(groups, advantages, ranks=2)
    real = 0
    for part in dealt:
        inputs = forward_inputs(part)
        masks = np.array_split([int(m.sum()) for m in inputs["loss_mask"].unbind()], UPDATES)
        assert all(mask.sum() > 0 for mask in masks)
        real += sum(bool(m.all()) for m in inputs["response_mask"].unbind())
    assert real == 1


def test_ranks_have_nearly_the_same_work() -> None:
    groups = make_groups(64, size=8)
    _, dealt = dealt_out(groups, make_advantages(groups, trivial=0.0), ranks=8)
    lengths = [forward_inputs(part)["input_ids"].offsets().diff().numpy() for part in dealt]
    for parts in as_verl_cuts(np.concatenate(lengths), 8):
        work = [int(part.sum()) for part in parts]
        assert max(work) < 1.05 * min(work)


@pytest.mark.parametrize("ranks", [1, 3])
def test_rows_hold_prompt_response_advantage_and_logprobs(ranks: int) -> None:
    groups = make_groups(7)
    advantages = make_advantages(groups)
    arrangement, dealt = dealt_out(groups, advantages, ranks)
    prompts = text_prompts(groups)
    flat = [r.response for g in groups for r in g.rollouts]
    places = np.split(np.arange(len(arrangement.rollout)), ranks)
    for part, mine in zip(dealt, places, strict=True):
        assert len(part.prompts) == len(
            {i // 4 for i in arrangement.rollout[mine].tolist() if i != PADDING}
        )
        assert part.logprobs is not None
        tensors = forward_inputs(part) | loss_inputs(part, part.logprobs)
        assert "multi_modal_inputs" not in tensors
        columns = {name: value.unbind() for name, value in tensors.items()}
        for row, place in enumerate(mine):
            i = int(arrangement.rollout[place])
            ids = columns["input_ids"][row].tolist()
            assert columns["position_ids"][row].tolist() == list(range(len(ids)))
            assert ids == [*columns["prompts"][row].tolist(), *columns["responses"][row].tolist()]
            gain = columns["advantages"][row]
            if i == PADDING:
                assert not gain.any()
                continue
            assert ids == [*prompts[i // 4].ids, *flat[i].token_ids]
            assert np.array_equal(columns["old_log_probs"][row].numpy(), flat[i].logprobs)
            expected = advantages[i] * arrangement.factor[arrangement.update[place]]
            assert gain.numpy() == pytest.approx(np.full(len(gain), expected), rel=1e-6)


def test_rows_travel_small() -> None:
    """A token costs its id and its log-prob, 8 bytes; a prompt is there once for its responses."""
    groups = [
        Group(g.prompt, tuple(replace(r, response=long_response()) for r in g.rollouts))
        for g in make_groups(8)
    ]
    _, dealt = dealt_out(groups, np.ones(32), ranks=2)
    tokens = sum(int(part.lengths.sum()) for part in dealt)
    assert sum(len(pickle.dumps(part)) for part in dealt) < 8.5 * tokens


def test_unknown_logprobs_are_not_made_up() -> None:
    groups = make_groups(4)
    unknown = Response(np.array([1, 2]), None, "", True)
    rollouts = (Rollout(unknown, 0.0, RolloutStatus.GRADED), *groups[0].rollouts[1:])
    groups[0] = Group(groups[0].prompt, rollouts)
    _, [part] = dealt_out(groups, np.ones(16), ranks=1)
    assert part.logprobs is None


def test_response_logprobs_are_shifted_by_one() -> None:
    rows = Rows((), np.zeros(2), np.array([2, 3]), np.zeros(5, np.int32), None, np.zeros(2))
    # rows of 3 + 2 and 1 + 3 tokens
    log_probs = torch.nested.nested_tensor_from_jagged(torch.arange(9.0), torch.tensor([0, 5, 9]))
    found = response_logprobs(rows, log_probs)
    assert [part.tolist() for part in rows.split(found)] == [[2.0, 3.0], [5.0, 6.0, 7.0]]


def test_empty_responses_stay_out() -> None:
    groups = make_groups(4)
    nothing = Response(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), "", False)
    rollouts = (Rollout(nothing, 0.0, RolloutStatus.GRADED), *groups[0].rollouts[1:])
    groups[0] = Group(groups[0].prompt, rollouts)
    assert 0 not in dealt_out(groups, np.ones(16), ranks=2)[0].rollout


def test_fewer_rollouts_than_updates() -> None:
    groups = make_groups(1, size=3)
    with pytest.raises(ValueError, match="3 rollouts"):
        dealt_out(groups, np.ones(3), ranks=1)


def test_multimodal_positions_and_media() -> None:
    """As the embedded engine's plain rows have them, behind a row of text positions."""
    encoder = tiny.student("vlm").encoder
    prompts = tiny.prompts("vlm")
    rows = StepPrompts(encoder, ANY_MEDIA).rows(prompts)
    groups = [Group(p, g.rollouts) for p, g in zip(prompts, make_groups(3), strict=True)]
    lengths = [len(row.ids) for row in rows]
    arrangement = arrange(groups, np.ones(12), lengths, UPDATES, 2, np.random.default_rng(7))
    held = np.split(arrangement.rollout, 2)
    for part, mine in zip(deal(arrangement, groups, rows, np.ones(12)), held, strict=True):
        inputs = forward_inputs(part)
        positions = inputs["position_ids"]
        assert positions.dim() == 3 and positions.shape[1] == 4
        ends = positions.offsets().tolist()
        values = positions.values()
        assert values.shape == (4, ends[-1])  # what verl hands to the model, packed
        for row, i in enumerate(mine.tolist()):
            own = values[:, ends[row] : ends[row + 1]]
            assert own[0].tolist() == list(range(own.shape[1]))
            if i == PADDING:
                continue
            group, place = divmod(i, 4)
            batch = encoder.collate([encoder.encode(prompts[group])], "cpu")
            response = torch.from_numpy(groups[group].rollouts[place].response.token_ids)[None]
            plain = batch.followed_by(response, torch.ones_like(response))
            assert torch.equal(own[1:], plain["position_ids"][:, 0])
            media = inputs["multi_modal_inputs"][row]
            assert media is rows[group].media or (not media and rows[group].media is None)
