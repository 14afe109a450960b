"""The paper's figures as a comparison, so that they come in the same tables as runs."""

from __future__ import annotations

from collections.abc import Iterator

from zppo.report import paper
from zppo.report.compare import Comparison, Entry, Fate, Item

#: The paper's runs have no seeds in print: one run each.
_ONE_RUN = (0,)


def compare_paper(scale: str, baseline: str | None = None) -> Comparison:
    """All methods of the paper at a scale, over its benchmarks. Raises `ConfigError` for a scale
    or a baseline it does not have."""
    scores = paper.accuracy(scale)
    entries = tuple(
        Entry(
            method,
            _ONE_RUN,
            {
                Item(family, name): (value,)
                for family, some in families.items()
                for name, value in some.items()
            },
            _graduation(scale, method),
            _cost(scale, method),
        )
        for method, families in scores.items()
    )
    return Comparison(
        f"Qwen3.5-{scale}, arXiv:2606.18216v1",
        entries,
        baseline or "grpo+replay",
        "benchmarks",
        tuple(_averages_only(scale)),
    )


def _averages_only(scale: str) -> Iterator[str]:
    """Methods of which the paper prints no benchmark, so that they cannot be in the tables."""
    for method, families in paper.figures()["hint_prefix_macro_avg"].get(scale, {}).items():
        means = ", ".join(f"{name} {families[name]}" for name in ("vlm", "llm", "video"))
        yield f"{method}: only macro averages are in print: {means}."


def _graduation(scale: str, method: str) -> dict[str, Fate]:
    """What the paper prints: both ends of a question's stay at 2B, graduations from 0 elsewhere."""
    found = paper.figures()
    if scale != "2B":
        from_zero = found["graduated_from_0_by_scale"][scale]
        return {"0.000": Fate(graduated=from_zero)} if method == "zppo" else {}
    table = found["graduation_2B"]["by_entry_accuracy"]
    if method not in table["0"]:
        return {}
    graduated, evicted = table["0"][method]
    return {
        "0.000": Fate(graduated=graduated, evicted=evicted),
        "0.125": Fate(graduated=table["0.125"][f"{method}_graduated"]),
    }


def _cost(scale: str, method: str) -> dict[str, float]:
    found = paper.figures()["cost"][scale]
    return {"hours": found[method][0], "FLOPs": found[method][1]} if method in found else {}
