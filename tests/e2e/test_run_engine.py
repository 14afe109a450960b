"""Runs with the embedded engine: what is on disk is a plain model, and a resume is exact."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from tests import tiny
from tests.runs.fakes import comparable
from zppo.config import Config, dump_config, load_config
from zppo.errors import RunError
from zppo.lab import models
from zppo.runs.evaluation import evaluate
from zppo.runs.export import export
from zppo.runs.train import resume, train

KILLED = """
import os, signal, sys
from zppo import load_config, train
from zppo.student.local import LocalStudent
from tests.e2e.test_run_engine import lucky_build
saves = 0
def deadly(self, path, save=LocalStudent.save):
    global saves
    saves += 1
    save(self, path)
    if saves == 2:
        os.kill(os.getpid(), signal.SIGKILL)
LocalStudent.save = deadly
train(load_config(sys.argv[1]), build=lucky_build, quiet=True)
"""


def lucky_build(config: Config):
    """`build_run` with a grader that is kinder to a student that knows nothing."""
    from tests.e2e.test_methods import LuckyGrader
    from zppo.runs.build import build_run

    parts = build_run(config)
    return replace(parts, step=replace(parts.step, grader=LuckyGrader()))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    loaded = tiny.loaded("vlm")
    models.save(loaded.model, loaded.tokenizer, folder)
    return folder


def _config(model: Path, run: Path, *overrides: str) -> Config:
    return load_config(
        "lab",
        [
            f"student.model={model}",
            "student.threads=1",
            "data.limit=48",
            "evaluation.limit=6",
            f"run.dir={run}",
            "run.steps=4",
            "run.checkpoint_every=1",
            "run.prompts_per_step=6",
            "run.tensorboard=false",
            "algorithm.group_size=4",
            "algorithm.rho_aug=0.5",
            "rollout.max_response_tokens=10",
            "evaluation.max_response_tokens=10",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "whole"
    assert train(_config(model, root), build=lucky_build, quiet=True).complete
    return root


def test_kill_9_in_a_save_then_resume_equals_uninterrupted(
    model: Path, whole: Path, tmp_path: Path
) -> None:
    killed, script = tmp_path / "killed", tmp_path / "config.yaml"
    script.write_text(dump_config(_config(model, killed)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(script)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list((killed / "checkpoints").glob("step-*"))) == 1

    assert resume(killed, build=lucky_build, quiet=True).complete
    rows = comparable(killed)
    assert rows == comparable(whole)
    assert any(row["update/grad_norm"] > 0 for row in rows)
    assert _same_optimizer(whole, killed)


def test_resume_is_exact_with_adapters(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = ["run.steps=3", "student.lora.rank=4", "optimizer.lr=1e-2"]
    train(_config(model, run, *overrides), build=lucky_build, quiet=True)
    rows = comparable(run)
    for step in (2, 3):
        shutil.rmtree(run / "checkpoints" / f"step-{step:06d}", ignore_errors=True)
    # Rotation has kept two; with both gone the run starts over from its fresh adapters.
    assert resume(run, build=lucky_build, quiet=True).complete
    assert comparable(run) == rows
    (run / "checkpoints/step-000003/state.json").unlink()
    assert resume(run, build=lucky_build, quiet=True).complete
    assert comparable(run) == rows


def _same_optimizer(a: Path, b: Path) -> bool:
    states = [
        torch.load(p / "checkpoints/step-000004/optimizer.pt", weights_only=True) for p in (a, b)
    ]
    moments = [s["adamw"]["state"] for s in states]
    return all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[0])


@pytest.mark.parametrize("overrides", [[], ["student.lora.rank=4"]], ids=["full", "lora"])
def test_checkpoint_and_export_are_plain_models(
    model: Path, tmp_path: Path, overrides: list[str]
) -> None:
    run = tmp_path / "run"
    config = _config(model, run, "run.steps=2", "optimizer.lr=1e-2", *overrides)
    train(config, build=lucky_build, quiet=True)
    checkpoint = run / "checkpoints" / "step-000002"
    out = export(run, tmp_path / "out")
    ids = torch.arange(20)[None]
    logits = []
    for folder in (checkpoint, out, model):
        net = AutoModelForImageTextToText.from_pretrained(folder).eval()
        AutoTokenizer.from_pretrained(folder)
        logits.append(net(input_ids=ids).logits)
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)  # it learnt
    assert not (out / "optimizer.pt").exists() and not (out / "adapter_config.json").exists()


def test_evaluate_a_run_equals_what_training_reported(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(_config(model, run, "run.steps=2"), quiet=True)
    assert evaluate(run).accuracy == result.after
    assert evaluate(run, checkpoint="start").accuracy == result.before
    with pytest.raises(RunError, match="no checkpoint `7`"):
        evaluate(run, checkpoint="7")


def test_a_new_learning_rate_takes_effect_on_resume(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(_config(model, run, "run.steps=2"), build=lucky_build, quiet=True)
    resume(run, ["run.steps=3", "optimizer.lr=3e-3"], build=lucky_build, quiet=True)
    state = torch.load(run / "checkpoints/step-000003/optimizer.pt", weights_only=True)
    assert state["adamw"]["param_groups"][0]["lr"] == 3e-3


def test_nan_stops_before_the_weights_are_touched(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zppo.student import trainer

    run = tmp_path / "run"
    config = _config(model, run, "run.steps=2")
    train(config, build=lucky_build, quiet=True)
    honest = trainer.policy_loss

    def poisoned(*args, **kwargs):
        loss, stats = honest(*args, **kwargs)
        return loss * float("nan"), stats

    monkeypatch.setattr(trainer, "policy_loss", poisoned)
    with pytest.raises(RunError, match=r"Step 3 .*nan[\s\S]*step-000002[\s\S]*step-000003.jsonl"):
        resume(run, ["run.steps=4"], build=lucky_build, quiet=True)
    lines = (run / "failures" / "step-000003.jsonl").read_text().splitlines()
    assert len([line for line in lines if json.loads(line)["type"] == "group"]) >= 6
