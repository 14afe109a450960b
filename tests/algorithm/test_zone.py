from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zppo.algorithm.zone import has_signal, is_hard, post_cap, pre_cap, replay_size, share_of
from zppo.types import (
    Group,
    GroupKind,
    Prompt,
    Question,
    Reformulation,
    Response,
    Rollout,
    RolloutStatus,
)

BCQ, NCQ = GroupKind.BCQ, GroupKind.NCQ
RESPONSE = Response(np.zeros(0, np.int64), None, "", True)


def plain(name: str, right: int, size: int = 8) -> Group:
    question = Question(name, "text", "answer")
    rewards = [1.0] * right + [0.0] * (size - right)
    rollouts = tuple(Rollout(RESPONSE, r, RolloutStatus.GRADED) for r in rewards)
    return Group(Prompt(question, GroupKind.PLAIN, "text"), rollouts)


def reformulated(name: str, kind: GroupKind, *, skipped: str = "") -> Reformulation:
    question = Question(name, "text", "answer")
    prompt = None if skipped else Prompt(question, kind, "text")
    return Reformulation(question, kind, prompt, skipped=skipped)


def names(reformulations: list[Reformulation]) -> list[tuple[str, GroupKind]]:
    return [(r.question.id, r.kind) for r in reformulations]


def test_hard_means_below_the_threshold():
    assert is_hard(3 / 8, 0.5)
    assert not is_hard(4 / 8, 0.5)
    assert is_hard(0.0, 0.5)


@pytest.mark.parametrize(
    ("rho", "n_new", "share"),
    [(0.25, 384, 96), (0.25, 3, 0), (0.25, 7, 1), (0.0, 384, 0), (2.0, 3, 6), (1, 5, 5)],
)
def test_share_rounds_down(rho, n_new, share):
    assert share_of(rho, n_new) == share


def test_share_takes_rho_as_written():
    assert int(0.29 * 100) == 28  # what floating point makes of it
    assert share_of(0.29, 100) == 29
    assert share_of(1e-3, 2000) == 2


@pytest.mark.parametrize("arguments", [(-0.1, 4), (float("nan"), 4), (float("inf"), 4), (0.1, -1)])
def test_share_refuses_nonsense(arguments):
    with pytest.raises(ValueError, match=r"rho|n_new"):
        share_of(*arguments)


def test_replay_is_bounded_by_the_buffer():
    assert replay_size(0.25, 384, 10_000) == 96
    assert replay_size(0.25, 384, 5) == 5
    assert replay_size(0.25, 384, 0) == 0


def test_pre_cap_keeps_the_hardest_in_order():
    groups = [plain("c", 3), plain("a", 0), plain("b", 1), plain("d", 2)]
    kept = pre_cap(groups, 3, np.random.default_rng(0))
    assert [g.question.id for g in kept] == ["a", "b", "d"]


def test_pre_cap_breaks_ties_at_random_but_repeatably():
    groups = [plain(str(i), 0) for i in range(20)]

    def draw(seed: int) -> list[str]:
        return [g.question.id for g in pre_cap(groups, 5, np.random.default_rng(seed))]

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(10)}) > 1
    picked = np.bincount([int(i) for seed in range(400) for i in draw(seed)], minlength=20)
    assert picked.min() > 60 and picked.max() < 140  # 100 expected, standard deviation 8.7


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 12), st.integers(0, 99))
def test_pre_cap_properties(rights, limit, seed):
    groups = [plain(str(i), right) for i, right in enumerate(rights)]
    kept = pre_cap(groups, limit, np.random.default_rng(seed))
    assert len(kept) == min(limit, len(groups))
    accuracies = [g.accuracy for g in kept]
    assert accuracies == sorted(g.accuracy for g in groups)[: len(kept)]
    assert len({g.question.id for g in kept}) == len(kept)


def test_post_cap_walks_the_questions_and_gives_the_last_slot_to_bcq():
    kept = [plain("a", 0), plain("b", 1)]
    built = [reformulated(q, kind) for q in "ba" for kind in (NCQ, BCQ)]
    assert names(post_cap(kept, built, 4)) == [("a", BCQ), ("a", NCQ), ("b", BCQ), ("b", NCQ)]
    assert names(post_cap(kept, built, 3)) == [("a", BCQ), ("a", NCQ), ("b", BCQ)]
    assert names(post_cap(kept, built, 1)) == [("a", BCQ)]
    assert post_cap(kept, built, 0) == []


def test_post_cap_gives_no_slot_to_what_was_not_built_or_not_kept():
    kept = [plain("a", 0), plain("b", 1)]
    built = [
        reformulated("a", BCQ, skipped="no correct teacher rollout"),
        reformulated("a", NCQ),
        reformulated("b", BCQ),
        reformulated("z", BCQ),
    ]
    assert names(post_cap(kept, built, 2)) == [("a", NCQ), ("b", BCQ)]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.integers(0, 20), st.randoms()
)
def test_post_cap_properties(present, limit, random):
    kept = [plain(str(i), 0) for i in range(len(present))]
    full = [
        (str(i), kind)
        for i, (bcq, ncq) in enumerate(present)
        for kind, there in ((BCQ, bcq), (NCQ, ncq))
        if there
    ]
    built = [reformulated(*key) for key in full]
    random.shuffle(built)
    assert names(post_cap(kept, built, limit)) == full[:limit]


def test_a_question_has_signal_where_one_of_its_groups_is_mixed():
    """Plain all wrong, BCQ mixed: both stay. Plain all right and nothing else: out."""
    groups = [
        *(plain("a", 0), plain("b", 8), plain("c", 3), plain("d", 0)),
        *(asked("a", BCQ, 1), asked("a", NCQ, 0), asked("d", BCQ, 8), asked("d", NCQ, 0)),
    ]
    expected = [True, False, True, False, True, True, False, False]
    assert has_signal(groups).tolist() == expected
    assert has_signal([]).tolist() == []


def asked(name: str, kind: GroupKind, right: int) -> Group:
    group = plain(name, right)
    return Group(Prompt(group.question, kind, "text"), group.rollouts)
