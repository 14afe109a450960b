"""From metrics to points, and from points to a drawing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.runs.fakes import fake_config
from zppo.report.breakdown import of_run
from zppo.report.charts import Line, Lines, Stack, hover, say, svg
from zppo.report.curves import Member, rest, sections
from zppo.report.metric_list import (
    ACCURACY,
    BUFFER,
    COST,
    CUMULATIVE,
    CUMULATIVE_COST,
    LEARNING,
    TEACHER,
)
from zppo.report.reading import EvaluationRow, Run
from zppo.report.series import MOST_POINTS, binned, moving_mean, running


def run(rows: list[dict[str, Any]], evaluations: tuple[EvaluationRow, ...] = ()) -> Run:
    config = fake_config(Path("run"))
    return Run(
        Path("run"), config, tuple({"step": i, **r} for i, r in enumerate(rows, 1)), evaluations
    )


def charts(*members: Member) -> dict[str, Lines]:
    found = (chart for section in sections(members) for chart in section.charts)
    return {chart.title: chart for chart in found if isinstance(chart, Lines)}


def stacks(rows: list[dict[str, Any]]) -> dict[str, Stack]:
    return {c.title: c for c in of_run(run(rows)) if isinstance(c, Stack)}


def layers(stack: Stack) -> dict[str, tuple[float, ...]]:
    return {layer.label: layer.values for layer in stack.layers}


def test_series_are_summed_binned_and_smoothed() -> None:
    assert running({2: 1.0, 5: 2.0}) == {2: 1.0, 5: 3.0}
    assert binned([(1, 2.0)]) == ((1.0, 2.0),) and binned([]) == ()
    many = binned([(x, 2.0 * x) for x in range(3 * MOST_POINTS)])
    assert len(many) == MOST_POINTS and many[0] == (1.0, 2.0) and many[1] == (4.0, 8.0)
    assert moving_mean([(1, 0.0), (2, 3.0), (3, 9.0)], 1) == ((1, 1.5), (2, 4.0), (3, 6.0))


def test_a_key_that_some_steps_lack_is_drawn_where_it_is() -> None:
    shown = charts(Member("a", 0, (run([{"accuracy/bcq": 0.5}, {}, {"accuracy/bcq": 1.0}]),)))
    assert shown["BCQ accuracy"].lines[0].points == ((1, 0.5), (3, 1.0))
    assert "NCQ accuracy" not in shown


def test_seeds_are_a_mean_with_a_band() -> None:
    seeds = tuple(run([{"policy/entropy": x}, {"policy/entropy": 2 * x}]) for x in (1.0, 2.0))
    (line,) = charts(Member("zppo", 0, seeds))["Policy entropy"].lines
    assert line.points == ((1, 1.5), (2, 3.0))
    assert line.band == ((1.0, 2.0), (2.0, 4.0))


def test_graduations_are_counted_up_and_those_from_zero_apart() -> None:
    rows = [
        {"buffer/graduated": 2, "buffer/graduated_from": {"0.000": 1, "0.250": 1}},
        {"buffer/graduated": 0, "buffer/graduated_from": {}},
        {"buffer/graduated": 1, "buffer/graduated_from": {"0.000": 1}},
    ]
    shown = charts(Member("a", 0, (run(rows),)))
    assert [y for _, y in shown["Graduated"].lines[0].points] == [2, 2, 3]
    assert [y for _, y in shown["Graduated from 0%"].lines[0].points] == [1, 1, 2]
    stack = stacks(rows)["Graduated so far, by accuracy at admission"]
    assert layers(stack) == {"0%": (1, 1, 2), "25%": (1, 1, 1)}


def test_validation_accuracy_by_family() -> None:
    rows = (EvaluationRow(0, {"all": 0.5, "text": 0.4}, {}, 0.0),)
    shown = charts(Member("a", 0, (run([{"zppo": 1}], rows),)))
    assert shown["Accuracy, all"].lines[0].points == ((0, 0.5),)
    assert shown["Accuracy, text"].dots


def test_what_is_zero_at_every_step_is_one_line_of_text() -> None:
    rows = [{"buffer/size": 3, "buffer/evicted": 0, "teacher/failed_share": 0.0, "zone/hard": 2}]
    found = {s.title: s for s in sections([Member("a", 0, (run(rows),))])}
    assert found["Replay buffer"].text == "Zero at every step: Evicted."
    assert found["Hard questions and the teacher"].text == "Zero at every step: Teacher failures."
    assert "Teacher failures" not in {c.title for s in found.values() for c in s.charts}


def test_a_metric_nobody_listed_is_still_drawn() -> None:
    shown = rest([Member("a", 0, (run([{"update/new_thing": 0.1, "accuracy/plain": 0.5}]),))])
    assert [chart.title for chart in shown] == ["update/new_thing"]


def test_the_batch_is_easy_hard_bcq_and_ncq() -> None:
    rows = [{"zone/hard": 3, "groups/plain": 10, "groups/bcq": 1, "groups/ncq": 2}]
    stack = stacks(rows)["Batch composition"]
    assert layers(stack) == {"plain, easy": (7,), "plain, hard": (3,), "BCQ": (1,), "NCQ": (2,)}


def test_fate_by_visits_counts_who_left_and_who_is_still_in() -> None:
    rows = [
        {
            "buffer/graduated_visits": {"1": 2},
            "buffer/evicted_visits": {},
            "buffer/visits": {"0": 9},
        },
        {
            "buffer/graduated_visits": {"1": 1, "9": 1},
            "buffer/evicted_visits": {"10": 1},
            "buffer/visits": {"0": 4, "1": 3},
        },
    ]
    stack = stacks(rows)["Fate by visits"]
    assert stack.xs == ("0", "1", "8+")
    assert layers(stack) == {
        "graduated": (0, 3, 1),
        "evicted": (0, 0, 1),
        "still in the buffer": (4, 3, 0),
    }


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.125, "share", "12.5%"),
        (1234.0, "count", "1,234"),
        (45.25, "count", "45.2"),
        (0.012345, "number", "0.0123"),
        (9.5, "seconds", "9.5 s"),
        (65.0, "seconds", "1:05"),
        (7322.0, "seconds", "2:02:02"),
    ],
)
def test_values_in_words(value: float, unit: Any, words: str) -> None:
    assert say(value, unit) == words


def drawn(*points: tuple[float, float], unit: Any = "number", **more: Any) -> str:
    return svg(Lines("t", "", unit, (Line("a", 0, points),), **more))


def labels(drawing: str) -> list[str]:
    return re.findall(r'<text class="y"[^>]*>([^<]*)</text>', drawing)


def test_axes_have_round_numbers_and_shares_begin_at_zero() -> None:
    assert labels(drawn((1, 0.55), (2, 0.93), unit="share")) == [
        "0%",
        "20%",
        "40%",
        "60%",
        "80%",
        "100%",
    ]
    assert labels(drawn((1, 0.55), (2, 0.93), unit="share", close=True))[0] != "0%"
    assert labels(drawn((1, 2.0), (2, 12.0), unit="seconds")) == [
        "0",
        "2.5",
        "5.0",
        "7.5",
        "10.0",
        "12.5",
    ]
    assert labels(drawn((1, 0.0), (2, 41_000.0), unit="count"))[-1] == "50k"


@pytest.mark.parametrize("points", [((1, 0.0),), ((1, -3.0), (2, -3.0)), ((1, 1e-9), (2, 1e9))])
def test_any_curve_can_be_drawn_within_its_frame(points: tuple[tuple[float, float], ...]) -> None:
    drawing = drawn(*points)
    assert "nan" not in drawing and "inf" not in drawing
    ys = [float(y) for y in re.findall(r'cy="([-\d.]+)"', drawing)]
    assert all(0 <= y <= 210 for y in ys)


def test_the_data_for_the_pointer_fit_the_drawing() -> None:
    lines = (Line("a", 0, ((1, 2.0), (3, 4.0)), run=0), Line("b", 1, ((2, 5.0),), run=1))
    data = hover(Lines("t", "", "number", lines))
    assert data["xs"] == [1, 2, 3] and data["x"] == [1, 3]
    assert [s["p"] for s in data["series"]] == [[2, None, 4], [None, 5, None]]
    assert [s["r"] for s in data["series"]] == [0, 1]


def test_every_listed_metric_is_one_that_runs_write() -> None:
    doc = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    for metric in (*ACCURACY, *LEARNING, *BUFFER, *CUMULATIVE, *TEACHER, *COST, *CUMULATIVE_COST):
        key = re.sub(r"^accuracy/(plain|bcq|ncq|hint|prefix)$", "accuracy/KIND", metric.key)
        assert f"| `{key}` |" in doc, metric.key


def test_reasons_that_differ_in_a_number_are_one() -> None:
    rows = [
        {"zone/skipped_reasons": {"prompt of 12 tokens": 1, "prompt of 345 tokens": 2}},
        {"zone/skipped_reasons": {"no wrong rollout": 1}},
        {},
    ]
    stack = stacks(rows)["Prompts not built, by reason"]
    assert layers(stack) == {"no wrong rollout": (0, 1, 0), "prompt of N tokens": (3, 0, 0)}
