"""OCRBench v2: delegated to lmms-eval, stated when it is not there, never a silent 0."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.evaluation import fixtures
from tests.teacher.server import Server
from zppo.errors import ConfigError
from zppo.evaluation.benchmark import Item, shipped
from zppo.evaluation.scorers import scorer_of
from zppo.evaluation.scorers.ocrbench import MODULE, official_metric
from zppo.rewards import Grade
from zppo.rewards.grader import grade
from zppo.runs.benchmarks import Request, run_benchmarks
from zppo.types import Question, RolloutStatus

SCORER = scorer_of(shipped()["OCREN"])


def item(kind: str, answers: list[Any], question: str = "What?", **meta: Any) -> Item:
    whole = {"type": kind, "answers": answers, "eval": "None", "bbox": None, "bbox_list": None,
             "content": None, "dataset_name": "made"} | meta  # fmt: skip
    return Item(Question("q", question, "x"), whole)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], list[str]]]:
    """A metric that is right on `word`, fails on `boom`, and records what it is called with."""
    calls: list[tuple[dict[str, Any], list[str]]] = []

    def process(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
        calls.append((doc, results))
        if results[0] == "boom":
            raise ValueError("no table")
        score = float("nan") if results[0] == "nan" else float(results[0] in doc["answers"])
        return {"ocrbench_v2_accuracy": {"score": score}}

    module = ModuleType(MODULE)
    module.ocrbench_v2_process_results = process  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    return calls


def verdict(it: Item, response: str) -> Any:
    return SCORER.rule(it, response, grade(response, ""))


def test_the_boxed_answer_or_the_text_after_the_thinking_is_scored(stub: Any) -> None:
    it = item("cognition VQA en", ["word"])
    assert verdict(it, "<think>hm</think>\\boxed{word}").score == 1.0
    assert verdict(it, "<think>hm</think> word ").score == 1.0
    assert verdict(it, "\\boxed{other}").score == 0.0
    document, said = stub[0]
    assert said == ["word"] and document["question"] == "What?"
    assert {"answers", "type", "eval", "bbox", "content"} <= set(document)


@pytest.mark.parametrize("said", ["boom", "nan"])
def test_a_metric_that_fails_gives_no_verdict(stub: Any, said: str) -> None:
    found = verdict(item("table parsing en", ["x"]), f"\\boxed{{{said}}}")
    assert (found.score, found.status) == (None, RolloutStatus.GRADER_ERROR)


def test_both_languages_end_to_end(stub: Any, data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        result, _ = run_benchmarks(
            Request(target="m", endpoint=server.url, names=["OCREN", "OCRZH"],
                    data_root=data_root, output=tmp_path)
        )  # fmt: skip
    for key, kind in (("OCREN", "cognition VQA en"), ("OCRZH", "cognition VQA cn")):
        entry = result["benchmarks"][key]
        assert (entry["n"], entry["score"], entry["parts"]) == (4, 0.75, {kind: 0.75})


def test_without_lmms_eval_it_says_so(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    for name in [n for n in sys.modules if n.startswith("lmms_eval.")]:
        monkeypatch.delitem(sys.modules, name)
    with Server(fixtures.oracle) as server:
        asked = Request(target="m", endpoint=server.url, names=["OCREN"],
                        data_root=data_root, output=tmp_path)  # fmt: skip
        with pytest.raises(ConfigError, match=r"zppo\[eval\].*--score-only"):
            run_benchmarks(asked)
        assert (tmp_path / "OCREN" / "predictions.jsonl").is_file()  # kept for later
        others = replace(asked, names=["OCREN", "MMLU"])
        result, _ = run_benchmarks(others)
    assert "lmms-eval" in result["failed"]["OCREN"]
    assert result["benchmarks"]["MMLU"]["score"] == 0.75


def test_the_real_metric() -> None:
    """Where lmms-eval is installed: known cases of the official metrics."""
    try:
        official_metric()
    except ConfigError:
        pytest.skip("lmms-eval is not installed")
    assert verdict(item("cognition VQA en", ["word"]), "\\boxed{Word}").score == 1.0
    assert verdict(item("cognition VQA en", ["word"]), "\\boxed{table}").score == 0.0
    it = item("text grounding en", [0, 0, 10, 10])
    assert verdict(it, "\\boxed{(0, 0, 10, 5)}").score == pytest.approx(0.5, abs=0.1)
    table = "<table><tr><td>1</td></tr></table>"
    it = item("table parsing en", [table], "Give the table as HTML.")
    assert verdict(it, table).score == pytest.approx(1.0)
    assert verdict(item("text counting en", ["5"], eval="regression"), "\\boxed{5}").score == 1.0


def test_a_cut_response_is_scored_as_it_is(stub: Any) -> None:
    cut = SCORER.rule(item("x en", ["word"]), "word", Grade(False, RolloutStatus.TRUNCATED))
    assert cut.score == 1.0
