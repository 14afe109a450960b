"""Evaluations on benchmarks, set against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs.fakes import fake_config
from zppo.config import dump_config
from zppo.errors import RunError
from zppo.report.compare import Comparison, difference, family_accuracy
from zppo.report.compare_results import compare_results


def result(folder: Path, model: str, settings: dict[str, Any] | None = None, **scores: Any) -> Path:
    """An evaluation as it lies on disk; a score is a number or a list of (cluster, score)."""
    entries: dict[str, Any] = {}
    for key, score in scores.items():
        rows = score if isinstance(score, list) else [("1", score)]
        values = [value for _, value in rows]
        entries[key] = {
            "family": "vlm" if key.startswith("V") else "llm",
            **{"score": sum(values) / len(values), "n": len(rows), "samples": 1, "version": 1},
            **{"complete": True, "errors": 0, "missing": 0, "limit": None, "judge": None},
        }
        (folder / key).mkdir(parents=True)
        lines = [
            json.dumps({"id": str(i), "cluster": c, "score": s}) for i, (c, s) in enumerate(rows)
        ]
        (folder / key / "scores.jsonl").write_text("\n".join(lines) + "\n")
    tree = {
        **{"schema": 1, "model": {"name": model}, "benchmarks": entries, "families": {}},
        "settings": {"model": model, "seed": 0, "decoding": {"temperature": 0.6}}
        | (settings or {}),
    }
    (folder / "result.json").write_text(json.dumps(tree))
    return folder


def change(folder: Path, key: str, **values: Any) -> None:
    tree = json.loads((folder / "result.json").read_text())
    tree["benchmarks"][key] |= values
    (folder / "result.json").write_text(json.dumps(tree))


def run_with(root: Path, *overrides: str) -> str:
    """The path of a checkpoint of a run."""
    root.mkdir()
    (root / "config.yaml").write_text(dump_config(fake_config(root, *overrides)))
    return str(root / "checkpoints" / "step-000200")


def test_models_are_named_by_their_folder(tmp_path: Path) -> None:
    a = result(tmp_path / "base", "org/base", V1=0.5, V2=0.25, L1=0.5)
    b = result(tmp_path / "ours", "org/ours", V1=0.75, V2=0.25, L1=0.25)
    found = compare_results([a, b])
    assert [e.name for e in found.entries] == ["base", "ours"]
    assert (found.baseline, found.unit) == ("base", "benchmarks")
    delta = difference(found.entries[1], found.base, "vlm", "benchmarks")
    assert delta is not None and delta.delta.mean == 0.125
    assert (delta.delta.wins, delta.delta.ties, delta.delta.losses) == (1, 1, 0)
    everything = family_accuracy(found.entries[1], "all", found)
    assert everything is not None and everything.mean == pytest.approx(1.25 / 3)


def test_checkpoints_of_runs_are_grouped_by_method(tmp_path: Path) -> None:
    folders = [
        result(
            tmp_path / f"r-{method}-{seed}",
            run_with(tmp_path / f"{method}-{seed}", f"method={method}", f"seed={seed}"),
            L1=score,
        )
        for method, seed, score in (
            *(("zppo", 1, 0.5), ("zppo", 0, 0.75)),
            *(("grpo+replay", 0, 0.5), ("grpo+replay", 1, 0.5)),
        )
    ]
    found = compare_results(folders)
    assert [(e.name, e.seeds) for e in found.entries] == [
        ("zppo", (0, 1)),
        ("grpo+replay", (0, 1)),
    ]
    assert found.baseline == "grpo+replay"
    assert next(iter(found.entries[0].scores.values())) == (0.75, 0.5)
    with pytest.raises(RunError, match="evaluations of zppo with the same seed"):
        compare_results([*folders, folders[0]])


def test_questions_are_resampled_by_their_cluster(tmp_path: Path) -> None:
    # Two variants of question a: one cluster.
    a = result(tmp_path / "base", "m", L1=[("a", 0.0), ("a", 1.0), ("b", 0.0)])
    b = result(tmp_path / "ours", "m", L1=[("a", 1.0), ("a", 1.0), ("b", 0.0)])
    found = compare_results([a, b], unit="questions")
    delta = difference(found.entries[1], found.base, "llm", "questions")
    assert delta is not None and delta.delta.mean == 0.25
    assert (delta.delta.wins, delta.delta.ties) == (1, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "version of L1 differs"),
        ({"n": 5}, "n of L1 differs: 1 in .*a`; 5 in .*b`"),
        ({"judge": "Qwen"}, "judge of L1 differs"),
        ({"data": {"digest": "0f"}}, "the data of L1 differs: None in .*a`; 0f in .*b`"),
        ({"complete": False, "errors": 3}, "L1 is incomplete in `.*b`: 3 errors, 0 missing"),
    ],
)
def test_other_tests_are_no_comparison(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    a, b = result(tmp_path / "a", "m", L1=0.5), result(tmp_path / "b", "m", L1=0.5)
    change(b, "L1", **values)
    with pytest.raises(RunError, match=message):
        compare_results([a, b])
    (note,) = compare_results([a, b], anyway=True).notes
    assert "L1" in note


def test_other_decoding_is_named(tmp_path: Path) -> None:
    a = result(tmp_path / "a", "m", L1=0.5)
    b = result(tmp_path / "b", "m", {"decoding": {"temperature": 1.0}}, L1=0.5)
    with pytest.raises(RunError, match=r"decoding differs: .*0\.6.*1\.0"):
        compare_results([a, b])


def test_a_benchmark_that_one_lacks(tmp_path: Path) -> None:
    a = result(tmp_path / "a", "m", L1=0.5, V1=0.5)
    b = result(tmp_path / "b", "m", L1=0.5)
    with pytest.raises(RunError, match=r"V1 is missing in `.*b`"):
        compare_results([a, b])
    found: Comparison = compare_results([a, b], anyway=True)
    assert found.families == ["llm"]
    c = result(tmp_path / "c", "m", V1=0.5)
    with pytest.raises(RunError, match="no benchmark in common"):
        compare_results([b, c], anyway=True)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no result\.json"):
        compare_results([tmp_path])
