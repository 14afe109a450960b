"""Benchmarks measured while a run trains, by the path of `zppo eval`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.fixtures import build_one
from zppo.config import load_config
from zppo.errors import DataError
from zppo.evaluation.benchmark import shipped
from zppo.evaluation.results import read_result
from zppo.runs.train import train


def settings(tiny_vlm: Path, run: Path, data: Path, *names: str) -> list[str]:
    return [
        "method=grpo",
        "teacher=null",
        f"student.model={tiny_vlm}",
        "student.threads=1",
        "data.limit=16",
        f"run.dir={run}",
        "run.steps=1",
        "run.prompts_per_step=4",
        "run.tensorboard=false",
        "algorithm.group_size=2",
        "optimizer.updates_per_step=1",
        "rollout.max_response_tokens=4",
        "evaluation.max_response_tokens=4",
        "evaluation.limit=2",
        f"evaluation.benchmarks=[{', '.join(names)}]",
        f"evaluation.data_root={data}",
    ]


def test_benchmarks_are_measured_before_and_after(tiny_vlm: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for key in ("MMLU", "DynaM"):
        build_one(data, shipped()[key])
    run = tmp_path / "run"
    result = train(load_config("lab", settings(tiny_vlm, run, data, "MMLU", "DynaM")), quiet=True)
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
    for row in rows:
        assert {"all", "benchmark/MMLU", "benchmark/DynaM"} <= set(row["accuracy"])
    assert result.after["benchmark/MMLU"] == rows[1]["accuracy"]["benchmark/MMLU"]
    # The whole record of `zppo eval`, scorer included, lies in the run.
    entry = (read_result(run / "benchmarks" / "step-000001") or {})["benchmarks"]["DynaM"]
    assert entry["scorer"]["name"] == "dynamath" and entry["n"] == 2
    assert (run / "benchmarks" / "step-000000" / "MMLU" / "predictions.jsonl").is_file()


def test_missing_data_stops_a_run_before_it_trains(tiny_vlm: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"evaluation\.benchmarks: MMLU: there is no folder"):
        train(load_config("lab", settings(tiny_vlm, run, tmp_path / "no", "MMLU")), quiet=True)
    assert not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text()
