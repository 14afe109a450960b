"""The statistics of a comparison, worked by hand."""

from __future__ import annotations

import math

import pytest

from zppo.errors import ConfigError
from zppo.report.compare import (
    Comparison,
    Entry,
    Item,
    benchmark_scores,
    choose_baseline,
    difference,
    differences,
    differing,
    family_accuracy,
    seed_notes,
    t_interval,
    t_quantile,
)


def entry(name: str, seeds: tuple[int, ...], **scores: tuple[float, ...]) -> Entry:
    """Keys are family_benchmark_question."""
    return Entry(name, seeds, {Item(*key.split("_")): v for key, v in scores.items()})


BASE = entry(
    "grpo+replay",
    (0, 1),
    text_a_1=(0.0, 0.0),
    text_a_2=(0.5, 0.5),
    text_a_3=(1.0, 1.0),
    text_b_4=(0.0, 1.0),
    image_c_5=(0.0, 0.0),
)
OURS = entry(
    "zppo",
    (1, 0),
    text_a_1=(1.0, 1.0),
    text_a_2=(0.5, 0.5),
    text_a_3=(1.0, 1.0),
    text_b_4=(1.0, 1.0),
    image_c_5=(1.0, 0.0),
)


def test_a_family_is_a_mean_over_questions_or_over_benchmarks() -> None:
    questions = Comparison("", (BASE, OURS), "grpo+replay", "questions")
    found = family_accuracy(BASE, "text", questions)
    assert found is not None
    assert found.mean == pytest.approx((1.5 / 4 + 2.5 / 4) / 2)  # seeds 0 and 1
    benchmarks = Comparison("", (BASE, OURS), "grpo+replay", "benchmarks")
    found = family_accuracy(BASE, "text", benchmarks)
    assert found is not None and found.mean == pytest.approx(((0.5 + 0) / 2 + (0.5 + 1) / 2) / 2)
    assert questions.families == ["text", "image", "all"]
    everything = family_accuracy(BASE, "all", questions)
    assert everything is not None and everything.mean == pytest.approx((1.5 / 5 + 2.5 / 5) / 2)


def test_benchmarks_are_means_of_their_questions_by_seed() -> None:
    assert benchmark_scores(BASE) == {
        Item("text", "a"): (0.5, 0.5),
        Item("text", "b"): (0.0, 1.0),
        Item("image", "c"): (0.0, 0.0),
    }


def test_a_difference_pairs_questions_and_seeds() -> None:
    found = difference(OURS, BASE, "text", "questions")
    assert found is not None and found.seeds is not None
    # By question, over both seeds: +1, 0, 0, +1/2. Seeds in another order are still paired.
    assert found.delta.mean == pytest.approx(0.375)
    assert (found.delta.wins, found.delta.ties, found.delta.losses) == (2, 2, 0)
    # By seed: seed 0 gains (1 + 0 + 0 + 1) / 4, seed 1 gains (1 + 0 + 0 + 0) / 4.
    assert found.seeds.mean == pytest.approx(0.375) and found.seeds.count == 2
    half = 12.7062 * math.sqrt((0.125**2 * 2) / 1) / math.sqrt(2)
    assert found.seeds.high == pytest.approx(0.375 + half, rel=1e-4)


def test_only_shared_seeds_are_paired() -> None:
    one = entry("zppo", (1, 7), text_a_1=(1.0, 0.0))
    two = entry("grpo", (0, 1), text_a_1=(0.0, 0.5))
    found = difference(one, two, "text", "questions")
    assert found is not None and found.delta.mean == 0.5
    assert found.seeds is not None and (found.seeds.count, found.seeds.low) == (1, None)
    apart = entry("grpo", (3, 4), text_a_1=(0.0, 0.5))
    found = difference(one, apart, "text", "questions")
    assert found is not None and found.delta.mean == 0.25 and found.seeds is None
    (note,) = seed_notes((one, two))
    assert "zppo: 1, 7; grpo: 0, 1" in note
    assert not seed_notes((two, entry("x", (0, 1))))


def test_what_was_not_measured_alike_has_no_difference() -> None:
    less = entry("zppo", (0,), text_a_1=(1.0,))
    base = entry("grpo", (0,), text_a_1=(0.0,), image_c_5=(0.0,))
    both = Comparison("", (base, less), "grpo", "questions")
    assert [d.family for d in differences(both)] == ["text"]
    assert family_accuracy(less, "image", both) is None
    assert family_accuracy(less, "all", both) is None  # the mean of some is another quantity


def test_the_baseline_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"no `grpo` to compare with; there are zppo\."):
        Comparison("", (OURS,), "grpo", "questions")
    assert choose_baseline((OURS, BASE), None) == "grpo+replay"
    assert choose_baseline((OURS,), None) == "zppo"
    assert choose_baseline((OURS, BASE), "zppo") == "zppo"


def test_t_interval_by_hand() -> None:
    found = t_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high == pytest.approx(2.0 + 4.3027 / math.sqrt(3))
    assert found.low == pytest.approx(2.0 - 4.3027 / math.sqrt(3))
    alone = t_interval([0.5])
    assert (alone.mean, alone.low, alone.high, alone.count) == (0.5, None, None, 1)
    with pytest.raises(ValueError, match="no value"):
        t_interval([])


@pytest.mark.parametrize(
    ("freedom", "expected"), [(4, 2.7764), (30, 2.0423), (31, 2.0395), (60, 2.0003), (1000, 1.9623)]
)
def test_t_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=1e-4)


def test_differing_says_which_value_stands_where() -> None:
    assert differing("x", ["a", "b"], [1, 1]) == []
    assert differing("x", ["a", "b", "c"], [1, 2, 1]) == ["x differs: 1 in `a`, `c`; 2 in `b`"]
