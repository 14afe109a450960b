"""The tables, on the paper's own figures: what is printed there must come out here."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from zppo.errors import ConfigError
from zppo.report import paper
from zppo.report.compare import Comparison, Entry, Fate, Item
from zppo.report.compare_command import show
from zppo.report.compare_paper import compare_paper
from zppo.report.compare_tables import clock, comparison_data, comparison_tables
from zppo.report.tables import Table
from zppo.report.tables_latex import latex


def table(comparison: Comparison, title: str) -> Table:
    return next(t for t in comparison_tables(comparison) if t.title.startswith(title))


def row(found: Table, *labels: str) -> dict[str, str]:
    cells = next(r for r in found.rows if r[: len(labels)] == labels)
    return dict(zip(found.columns, cells, strict=True))


def test_the_papers_family_averages() -> None:
    found = table(compare_paper("2B"), "Accuracy by family")
    assert row(found, "zppo") == {
        **{"method": "zppo", "vlm": "62.0", "llm": "50.4", "video": "63.2"},
        "all": "58.4",
    }
    assert row(found, "off_distill")["llm"] == row(found, "off_distill")["all"] == "-"


def test_the_papers_benchmarks() -> None:
    found = table(compare_paper("2B"), "Accuracy by benchmark")
    assert len(found.rows) == 31
    assert row(found, "vlm", "AI2D")["zppo"] == "85.3"
    assert row(found, "llm", "IMO-AB")["off_distill"] == "-"


@pytest.mark.parametrize("scale", paper.SCALES)
def test_the_papers_intervals_are_in_the_table(scale: str) -> None:
    found = table(compare_paper(scale), "Difference to grpo+replay")
    printed = paper.figures()["cluster_bootstrap_zppo_minus_grpo+replay"][scale]
    for family, (mean, low, high, wins) in printed.items():
        ours = row(found, "zppo", family)
        assert float(ours["difference"]) == pytest.approx(mean, abs=0.011)
        shown = [float(x) for x in ours["95% over benchmarks"].split(" to ")]
        assert shown == pytest.approx([low, high], abs=0.15)
        assert ours["won/tied/lost"].split("/")[0] == wins.split("/")[0]


def test_another_baseline() -> None:
    found = table(compare_paper("9B", "grpo"), "Difference to grpo.")
    assert not [r for r in found.rows if r[0] == "grpo"]
    with pytest.raises(ConfigError, match="no `ppo` to compare with"):
        compare_paper("9B", "ppo")


def test_the_papers_graduation_and_cost() -> None:
    two = compare_paper("2B")
    assert row(table(two, "Replay buffer"), "zppo", "0") == {
        **{"method": "zppo", "accuracy at admission": "0", "admitted": "-"},
        **{"graduated": "432", "evicted": "1,568", "graduated share": "-"},
    }
    assert row(table(two, "Cost"), "zppo") == {"method": "zppo", "hours": "79", "FLOPs": "9.8e+20"}
    assert row(table(compare_paper("4B"), "Replay buffer"), "zppo", "0")["graduated"] == "562"


def test_methods_with_averages_alone_are_notes() -> None:
    assert compare_paper("2B").notes == (
        "grpo+replay+hint: only macro averages are in print: vlm 60.4, llm 47.6, video 61.6.",
        "grpo+replay+prefix: only macro averages are in print: vlm 59.5, llm 46.3, video 61.0.",
    )
    assert compare_paper("9B").notes == ()


def test_all_of_it_as_data() -> None:
    data = json.loads(json.dumps(comparison_data(compare_paper("0.8B"))))
    ours = next(e for e in data["entries"] if e["name"] == "zppo")
    assert ours["families"]["vlm"]["mean"] == pytest.approx(0.5025)
    assert {"family": "llm", "benchmark": "AIME25", "by_seed": [0.033]} in ours["benchmarks"]
    delta = next(d for d in data["differences"] if (d["entry"], d["family"]) == ("zppo", "vlm"))
    assert delta["delta"]["mean"] == pytest.approx(0.0479, abs=0.0001)
    assert ours["cost"] == {"hours": 68, "FLOPs": 4.9e20}


def two_seeds() -> Comparison:
    def made(name: str, a: tuple[float, ...], b: tuple[float, ...]) -> Entry:
        scores = {Item("text", "sums", "1"): a, Item("text", "sums", "2"): b}
        fate = {"0.000": Fate(graduated=1.5, evicted=0.0, admitted=6.0)}
        cost = {"time/plain": 3725.0, "time/update": 59.6, "tokens": 12345.0, "FLOPs": 1.26e15}
        return Entry(name, (0, 1), scores, fate, cost, (f"runs/{name}-1",))

    entries = (made("grpo", (0.0, 1.0), (0.0, 0.0)), made("zppo", (1.0, 1.0), (0.5, 0.0)))
    return Comparison("After step 9", entries, "grpo", "questions", ("Mind the gap.",))


def test_seeds_give_a_spread() -> None:
    tables = two_seeds()
    ours = row(table(tables, "Accuracy by family"), "zppo")
    # 0.75 and 0.5: half of the interval is 12.706 * sd / sqrt(2), sd = 0.25 / sqrt(2).
    assert ours == {"method": "zppo", "seeds": "2", "text": f"62.5 ±{1270.62 * 0.125:.1f}"}
    gained = row(table(tables, "Difference"), "zppo", "text")
    # By seed: 0.75 - 0 and 0.5 - 0.5.
    half = 12.7062 * (0.75 / math.sqrt(2)) / math.sqrt(2)
    low, high = 100 * (0.375 - half), 100 * (0.375 + half)
    assert gained["95% over seeds"] == f"{low:+.2f} to {high:+.2f} (n=2)"
    assert gained["won/tied/lost"] == "2/0/0"
    fate = row(table(tables, "Replay buffer"), "zppo", "0")
    assert (fate["graduated"], fate["graduated share"]) == ("1.5", "25.0%")
    cost = row(table(tables, "Cost"), "zppo")
    assert (cost["rollouts"], cost["update"]) == ("1:02:05", "1:00")
    assert (cost["response tokens"], cost["FLOPs"]) == ("12,345", "1.3e+15")


def printed(format: str) -> str:
    out = io.StringIO()
    show([two_seeds()], format, Console(file=out, width=120))  # pyright: ignore[reportArgumentType]
    return out.getvalue()


def test_markdown() -> None:
    text = printed("markdown")
    assert text.startswith("> Mind the gap.\n")
    assert "| method | seeds | text |" in text and "| --- | ---: | ---: |" in text


def test_latex() -> None:
    text = printed("latex")
    assert text.startswith("% Mind the gap.\n")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 5
    assert r"62.5 $\pm$158.8" in text and r"25.0\%" in text and "$+37.50$" in text


def test_latex_shows_names_as_they_are() -> None:
    text = latex(Table("a_b", ("x & y", "#"), (("50% {of} $1", "-1.5"), ("~^\\", "-")), "n<1"))
    assert r"x \& y & \# \\" in text and r"50\% \{of\} \$1 & $-1.5$ \\" in text
    assert r"\textasciitilde{}\textasciicircum{}\textbackslash{} & - \\" in text
    assert r"\caption{a\_b. n\textless{}1}" in text
    assert r"\begin{tabular}{lr}" in text


def test_terminal_and_json() -> None:
    assert "note: Mind the gap." in printed("table")
    (data,) = json.loads(printed("json"))
    assert data["notes"] == ["Mind the gap."] and data["entries"][0]["seeds"] == [0, 1]


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 3725)] == ["0:00", "1:00", "1:02:05"]
