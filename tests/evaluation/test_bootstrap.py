from __future__ import annotations

import numpy as np
import pytest

from zppo.evaluation.bootstrap import Delta, paired_cluster_bootstrap, shared_resample
from zppo.report import paper

FAMILIES = ("vlm", "llm", "video")


@pytest.mark.parametrize("scale", paper.SCALES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_papers_intervals_follow_from_its_tables(scale: str, family: str) -> None:
    scores = paper.accuracy(scale)
    ours, theirs = scores["zppo"][family], scores["grpo+replay"][family]
    assert ours.keys() == theirs.keys()
    delta = paired_cluster_bootstrap(list(ours.values()), list(theirs.values()))
    mean, low, high, wins = paper.figures()["cluster_bootstrap_zppo_minus_grpo+replay"][scale][
        family
    ]
    assert 100 * delta.mean == pytest.approx(mean, abs=0.0051)
    assert 100 * delta.low == pytest.approx(low, abs=0.15)
    assert 100 * delta.high == pytest.approx(high, abs=0.15)
    assert f"{delta.wins}/{len(ours)}" == wins
    assert delta.wins + delta.ties + delta.losses == len(ours)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_resample_for_all_scales_reproduces_them_too(family: str) -> None:
    tables = [paper.accuracy(scale) for scale in paper.SCALES]
    a, b = (
        np.array([list(table[method][family].values()) for table in tables]).T
        for method in ("zppo", "grpo+replay")
    )
    for scale, delta in zip(paper.SCALES, shared_resample(a, b), strict=True):
        printed = paper.figures()["cluster_bootstrap_zppo_minus_grpo+replay"][scale][family]
        assert 100 * delta.low == pytest.approx(printed[1], abs=0.15)
        assert 100 * delta.high == pytest.approx(printed[2], abs=0.15)


def test_two_clusters_by_hand() -> None:
    # Differences 0 and 1: a resample has mean 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    delta = paired_cluster_bootstrap([1.0, 2.0], [1.0, 1.0])
    assert delta == Delta(mean=0.5, low=0.0, high=1.0, wins=1, ties=1, losses=0)


def test_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.6, 0.1, 400), rng.normal(0.5, 0.1, 400)
    delta = paired_cluster_bootstrap(a, b)
    half = 1.96 * (a - b).std() / 20
    assert delta.low == pytest.approx((a - b).mean() - half, abs=0.0005)
    assert delta.high == pytest.approx((a - b).mean() + half, abs=0.0005)


def test_pairing_is_what_makes_it_narrow() -> None:
    rng = np.random.default_rng(2)
    hardness = rng.uniform(size=100)
    paired = paired_cluster_bootstrap(hardness + 0.01, hardness)
    assert paired.low == pytest.approx(0.01) and paired.high == pytest.approx(0.01)
    assert paired.wins == 100


def test_swapping_turns_the_sign_and_a_seed_repeats() -> None:
    a, b = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    there, back = paired_cluster_bootstrap(a, b, seed=3), paired_cluster_bootstrap(b, a, seed=3)
    assert there.mean == pytest.approx(-back.mean)
    assert (there.wins, there.losses) == (back.losses, back.wins) == (2, 1)
    assert there == paired_cluster_bootstrap(a, b, seed=3)
    assert there != paired_cluster_bootstrap(a, b, resamples=50, seed=3)


def test_shared_columns_are_drawn_together() -> None:
    rng = np.random.default_rng(4)
    column = rng.normal(size=30)
    a = np.stack([column, column, rng.normal(size=30)], axis=1)
    first, second, third = shared_resample(a, np.zeros_like(a))
    assert first == second != third
    alone = paired_cluster_bootstrap(column, np.zeros(30))
    assert (first.low, first.high) == pytest.approx((alone.low, alone.high))


def test_many_questions_do_not_need_much_memory() -> None:
    a = np.zeros(50_000)
    a[:25_000] = 1.0
    delta = paired_cluster_bootstrap(a, np.zeros(50_000), resamples=200)
    assert delta.low == pytest.approx(0.5 - 1.96 * 0.5 / np.sqrt(50_000), abs=0.002)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0, 2.0], "same clusters"),
        ([], [], "no cluster"),
        ([float("nan")], [0.0], "finite"),
    ],
)
def test_bad_scores(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_cluster_bootstrap(a, b)


def test_resamples_must_be_some() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        paired_cluster_bootstrap([1.0], [0.0], resamples=0)
