"""What a sweep runs, and what it knows of runs that are there already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.runs.fakes import fake_build
from zppo.config import Config
from zppo.errors import ConfigError, RunError
from zppo.runs.sweep import SweepRun, plan, read_manifest, state_of, sweep_folder, write_manifest
from zppo.runs.train import train

SMALL = [
    "run.steps=2",
    "run.prompts_per_step=8",
    "run.tensorboard=false",
    "algorithm.group_size=4",
    "run.checkpoint_every=1",
]


def test_methods_by_seeds_by_grid(tmp_path: Path) -> None:
    runs = plan(
        "lab",
        tmp_path,
        methods=["zppo", "grpo"],
        seeds=[0, 1],
        settings=["run.steps=3"],
        grid=["algorithm.hard_threshold=0.25,0.5", "optimizer.updates_per_step=1,4"],
    )
    assert len(runs) == 16
    # Whole comparisons first: all of seed 0 comes before any of seed 1.
    assert [run.config.seed for run in runs] == [0] * 8 + [1] * 8
    first = runs[0]
    assert first.name == ("zppo-algorithm.hard_threshold=0.25-optimizer.updates_per_step=1-seed0")
    assert first.folder == tmp_path / first.name
    assert (first.config.method, first.config.run.steps) == ("zppo", 3)
    assert first.config.algorithm.hard_threshold == 0.25
    assert first.config.optimizer.updates_per_step == 1
    assert first.config.run.dir == str(first.folder)
    assert len({run.folder for run in runs}) == 16


def test_without_anything_it_is_the_config_itself(tmp_path: Path) -> None:
    (run,) = plan(None, tmp_path)
    assert (run.name, run.config.method, run.config.seed) == ("zppo-seed0", "zppo", 0)
    assert sweep_folder(None) == Path("runs/sweep-lab")
    assert sweep_folder("configs/mine.yaml") == Path("runs/sweep-mine")


def test_lists_and_paths_are_values_too(tmp_path: Path) -> None:
    runs = plan("lab", tmp_path, grid=["optimizer.betas=[0.9, 0.99],[0.8, 0.9]"])
    assert [run.config.optimizer.betas for run in runs] == [(0.9, 0.99), (0.8, 0.9)]
    (run,) = plan("lab", tmp_path, grid=["data.train=some/where.jsonl"])
    assert run.config.data.train == "some/where.jsonl"
    assert run.folder.parent == tmp_path  # no slash of a value makes a folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["zpo"]}, "did you mean `zppo`"),
        ({"grid": ["algorithm.hard_treshold=0.5"]}, "did you mean `hard_threshold`"),
        ({"grid": ["algorithm.hard_threshold=0.5,7"]}, "hard_threshold"),
        ({"grid": ["algorithm.hard_threshold"]}, "must look like key.sub=value,value"),
        ({"grid": ["algorithm.hard_threshold=[0.5"]}, "not valid YAML"),
        ({"settings": ["seed=3"]}, "`seed` is set by the sweep itself"),
        ({"grid": ["method=zppo,grpo"]}, "`method` is set by the sweep itself"),
        ({"seeds": [1, 1]}, "holds `zppo-seed1` twice"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    tmp_path: Path, changes: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan("lab", tmp_path, **changes)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> SweepRun:
    (run,) = plan("lab", tmp_path, settings=SMALL)
    return run


def test_states(run: SweepRun) -> None:
    assert state_of(run) == "new"
    run.folder.mkdir()
    (run.folder / "config.yaml").write_text("")
    shutil.rmtree(run.folder)
    train(run.config, build=fake_build, quiet=True)
    assert state_of(run) == "finished"
    rows = (run.folder / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "evaluations.jsonl").write_text(rows[0])
    assert state_of(run) == "interrupted"  # killed in its last evaluation
    (run.folder / "evaluations.jsonl").write_text("".join(rows))
    rows = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "metrics.jsonl").write_text(rows[0])
    assert state_of(run) == "interrupted"


def test_longer_is_the_same_run_and_anything_else_is_not(run: SweepRun, tmp_path: Path) -> None:
    train(run.config, build=fake_build, quiet=True)
    (longer,) = plan("lab", tmp_path, settings=[*SMALL, "run.steps=3"])
    assert longer.folder == run.folder and state_of(longer) == "interrupted"
    (other,) = plan("lab", tmp_path, settings=[*SMALL, "optimizer.lr=0.5"])
    with pytest.raises(RunError, match=r"started with another optimizer\.lr; .*--dir"):
        state_of(other)


def test_the_manifest_says_which_run_is_what_and_grows(tmp_path: Path) -> None:
    write_manifest(tmp_path, "lab", plan("lab", tmp_path, methods=["zppo", "grpo"]))
    write_manifest(tmp_path, "lab", plan("lab", tmp_path, methods=["grpo"], seeds=[0, 1]))
    rows = read_manifest(tmp_path)
    assert [r["name"] for r in rows] == ["zppo-seed0", "grpo-seed0", "grpo-seed1"]
    assert rows[2]["method"] == "grpo" and rows[2]["seed"] == 1
    assert f"run.dir={tmp_path / 'grpo-seed1'}" in rows[2]["overrides"]
    assert read_manifest(tmp_path / "elsewhere") == []
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(RunError, match="not the manifest of a sweep"):
        read_manifest(tmp_path)


def test_configs_are_whole(run: SweepRun) -> None:
    assert isinstance(run.config, Config) and run.log.name == "zppo-seed0.log"
