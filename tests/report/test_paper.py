from __future__ import annotations

import pytest

from zppo.errors import ConfigError
from zppo.report import paper


def test_every_benchmark_is_there_and_the_printed_averages_follow() -> None:
    sizes = {"vlm": 16, "llm": 10, "video": 5}
    for scale in paper.SCALES:
        for method, families in paper.accuracy(scale).items():
            for family, scores in families.items():
                assert len(scores) == sizes[family]
                printed = paper.figures()["accuracy"][scale][method][family]["Avg"]
                ours = 100 * sum(scores.values()) / len(scores)
                assert ours == pytest.approx(printed, abs=0.1), (scale, method, family)


def test_the_source_is_named() -> None:
    assert "arXiv:2606.18216v1" in paper.figures()["source"]


def test_a_scale_the_paper_lacks() -> None:
    with pytest.raises(ConfigError, match=r"no scale `7B`; it has 0\.8B"):
        paper.accuracy("7B")
