"""`zppo compare`, `zppo cost` and `zppo sweep` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.report.test_compare_results import result
from tests.runs.fakes import fake_build, fake_config
from zppo.cli import app
from zppo.runs.sweep import plan, write_manifest
from zppo.runs.sweep_run import Outcome
from zppo.runs.train import train

runner = CliRunner()


def run(*args: str) -> str:
    found = runner.invoke(app, args, terminal_width=200, env={"COLUMNS": "200"})
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("two")
    for method in ("zppo", "grpo+replay"):
        train(fake_config(folder / method, f"method={method}"), build=fake_build, quiet=True)
    return [str(folder / "zppo"), str(folder / "grpo+replay")]


def test_compare_the_paper() -> None:
    shown = run("compare", "--paper", "--scale", "2B")
    assert "Accuracy by family. Qwen3.5-2B" in shown and "+1.91 to +3.75" in shown
    assert "Qwen3.5-9B" not in shown
    data = json.loads(run("compare", "--paper", "--format", "json"))
    assert [d["title"].split(",")[0] for d in data] == [
        f"Qwen3.5-{s}" for s in ("0.8B", "2B", "4B", "9B")
    ]


def test_compare_runs(two: list[str]) -> None:
    shown = run("compare", *two)
    for title in ("Accuracy by family", "Difference to grpo+replay", "Replay buffer", "Cost"):
        assert title in shown
    assert run("compare", *two, "--baseline", "zppo", "--format", "markdown").count("### ") == 5
    assert r"\toprule" in run("compare", *two, "--clusters", "benchmarks", "--format", "latex")
    (data,) = json.loads(run("compare", *two, "--format", "json"))
    assert data["unit"] == "questions" and len(data["entries"]) == 2


def test_compare_a_sweep(tmp_path: Path) -> None:
    settings = ["run.steps=2", "run.prompts_per_step=8", "run.tensorboard=false"]
    runs = plan("lab", tmp_path, methods=["zppo", "grpo", "grpo+replay"], settings=settings)
    write_manifest(tmp_path, "lab", runs)
    empty = runner.invoke(app, ["compare", str(tmp_path)])
    assert empty.exit_code == 2 and "None of these runs was started" in empty.stderr
    for one in runs[:2]:
        train(one.config, build=fake_build, quiet=True)
    (data,) = json.loads(run("compare", str(tmp_path), "--format", "json"))
    assert [e["name"] for e in data["entries"]] == ["grpo", "zppo"]
    (note,) = data["notes"]
    assert note.startswith(f"`{tmp_path / 'grpo+replay-seed0'}` is not in it")


def test_compare_evaluations(tmp_path: Path, two: list[str]) -> None:
    a = result(tmp_path / "a", "m", V1=0.5, L1=0.25)
    b = result(tmp_path / "b", "m", V1=0.75, L1=0.25)
    (data,) = json.loads(run("compare", str(a), str(b), "--format", "json"))
    assert data["unit"] == "benchmarks"
    mixed = runner.invoke(app, ["compare", str(a), two[0]])
    assert mixed.exit_code == 2 and "is an evaluation on benchmarks and" in mixed.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare"], "Name the runs to compare, or --paper"),
        (["compare", "nowhere"], "`nowhere` is not a run"),
        (["compare", "--paper", "--scale", "3B"], "no scale `3B`"),
        (["compare", "--paper", "--baseline", "ppo"], "no `ppo` to compare with"),
        (["cost", "--assume", "hard_shar=1"], "did you mean `hard_share`"),
        (["cost", "--assume", "hard_share=much"], "must look like hard_share=NUMBER"),
        (["cost", "--hardware", "gpus=3"], "--hardware has no `gpus`"),
        (["cost", "--methods", "zpo"], "did you mean `zppo`"),
        (["cost", "student.model=org/mini"], "--student-params"),
        (["sweep", "--seeds", "a"], "--seeds takes whole numbers"),
        (["sweep", "--methods", "zpo"], "did you mean `zppo`"),
        (["sweep", "labb"], "Did you mean the recipe `lab`"),
    ],
)
def test_mistakes_are_one_message(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = runner.invoke(app, args)
    assert found.exit_code == 2, found.output
    assert found.stderr.startswith("Error: ") and message in found.stderr
    assert not list(tmp_path.iterdir())


def test_cost_of_the_paper() -> None:
    shown = run("cost", "--paper")
    assert "Cost against the paper's table 9" in shown and "fitted to this table" in shown
    rows = json.loads(run("cost", "--paper", "--format", "json"))
    assert len(rows) == 28 and rows[0].keys() >= {"method", "scale", "flops", "paper_flops"}


def test_cost_of_a_config() -> None:
    shown = run("cost", "qwen3.5-2b", "--gpu-memory", "80", "--hardware", "student_devices=8")
    assert "student 2B, teacher 27B; 8 + 16 devices" in shown
    assert "Peak: does not fit in 80 GB" in shown and "guess from its size" in shown
    args = ["cost", "qwen3.5-2b", "--methods", "grpo", "--assume", "response_tokens=1000"]
    data = json.loads(run(*args, "--student-params", "1B", "--format", "json"))
    assert data["methods"]["grpo"]["flops"] == 200 * 384 * 8 * 5096 * 28 * 1e9
    assert data["methods"]["grpo"]["hours"] is None and "memory" not in data
    assert "\\begin{table}" in run("cost", "lab", "--format", "latex")


def test_sweep_lists_its_runs_without_running_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["--methods", "zppo,grpo", "--seeds", "0,1", "--grid", "algorithm.rho_aug=0.25,0.5"]
    lines = run("sweep", "lab", *args, "--dry-run").splitlines()
    assert len(lines) == 8 and lines[0] == "zppo-algorithm.rho_aug=0.25-seed0  new"
    assert not list(tmp_path.iterdir())


def test_sweep_ends_with_what_came_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: str, runs: list, **options: object) -> list[Outcome]:
        options["watch"]([], [Outcome(runs[0], "failed", "no [disk]")])  # pyright: ignore[reportCallIssue]
        return [Outcome(runs[0], "failed", "no [disk]"), Outcome(runs[1], "finished")]

    monkeypatch.setattr("zppo.runs.sweep_command.run_sweep", fail)
    found = runner.invoke(
        app,
        ["sweep", "lab", "--methods", "zppo,grpo", "--dir", str(tmp_path)],
        env={"COLUMNS": "200"},
    )
    assert found.exit_code == 1
    assert "zppo-seed0  failed: no [disk]" in found.stdout
    assert "1 of 2 runs are finished" in found.stdout
    names = [row["name"] for row in json.loads((tmp_path / "manifest.json").read_text())["runs"]]
    assert names == ["zppo-seed0", "grpo-seed0"]
