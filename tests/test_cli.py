"""The command line as a user meets it: in a process of its own where that matters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.runs.fakes import fake_build, fake_config
from zppo.cli import app
from zppo.errors import ModelError
from zppo.runs.evaluation import evaluate
from zppo.runs.train import train

runner = CliRunner()


def zppo(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zppo", *args], capture_output=True, text=True, cwd=cwd
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['zppo', '--help']\n"
        "from zppo.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pydantic', 'numpy', 'rich'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    for verb in ("train", "resume", "eval", "check", "export", "version", "data", "lab"):
        assert f"  {verb} " in done.stdout


def test_train_help_lists_the_recipes() -> None:
    result = runner.invoke(app, ["train", "--help"])
    assert result.exit_code == 0
    assert "lab " in result.output and "KEY=VALUE" in result.output


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["train", "optimizer.learning_rate=1e-5"], "optimizer.learning_rate: unknown key"),
        (["train", "optimizer.l=1e-5"], "did you mean `lr`"),
        (["train", "lab", "method=zpo"], "did you mean `zppo`"),
        (
            ["train", "lab", "teacher.kind=local", "teacher.model=lab-teacher"],
            "teacher.error_rate: unknown key; it belongs to kind `scripted`",
        ),
        (["train", "run.steps=many"], "run.steps"),
        (["train", "labb"], "Did you mean the recipe `lab`"),
        (["check", "seed=-1"], "seed"),
        (["eval", "nothing.yaml"], "No config file `nothing.yaml`"),
        (["resume", "nowhere"], "`nowhere` is not a run"),
        (["export", "nowhere", "out"], "`nowhere` is not a run"),
        (["data", "inspect", "none.jsonl"], "No data file `none.jsonl`"),
        (["train", "data.train=none.jsonl", "run.dir=run"], "No data file `none.jsonl`"),
    ],
)
def test_bad_input_is_one_message_without_traceback(
    args: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and expected in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())  # nothing was left behind


def test_unknown_key_in_a_real_process() -> None:
    done = zppo("train", "run.stesp=3")
    assert done.returncode == 2
    assert "did you mean `steps`" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_out_of_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr("zppo.runs.train.train", explode)
    result = runner.invoke(app, ["train"])
    assert result.exit_code == 2 and "micro_batch_tokens" in result.stderr


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zppo.runs.train.train", interrupt)
    assert runner.invoke(app, ["train"]).exit_code == 130


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*args: object, **kwargs: object) -> None:
        raise AssertionError("ours")

    monkeypatch.setattr("zppo.runs.train.train", bug)
    assert isinstance(runner.invoke(app, ["train"]).exception, AssertionError)


def test_sigint_stops_a_real_process_with_130_and_a_way_on(tmp_path: Path) -> None:
    code = (
        "import sys, time, zppo.runs.train as t, zppo.runs.build as b\n"
        "from tests.runs import fakes\n"
        "class Slow(fakes.FakeStudent):\n"
        "    async def update(self, *a):\n"
        "        time.sleep(0.2)\n"
        "        return await super().update(*a)\n"
        "fakes.FakeStudent = Slow\n"
        "t.train.__kwdefaults__['build'] = fakes.fake_build\n"
        "from zppo.cli import main\n"
        "main()"
    )
    overrides = [f"run.dir={tmp_path / 'run'}", "run.steps=50", "run.prompts_per_step=8"]
    process = subprocess.Popen(
        [sys.executable, "-uc", code, "train", "lab", *overrides, "run.tensorboard=false"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 2/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "finishing this step and saving" in out
    assert f"zppo resume {tmp_path / 'run'}" in out
    assert "Traceback" not in err


def test_inspect_shows_counts_skips_and_lengths(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"question": "1+1?", "answer": "2", "source": "a/b"}\n{"question": "no answer"}\n{bad\n'
    )
    result = runner.invoke(app, ["data", "inspect", str(file)])
    assert result.exit_code == 0
    assert "1 of 3 rows are usable" in result.output
    assert "row 2" in result.output and "invalid JSON" in result.output
    assert "would refuse it" in result.output
    assert "a/b" in result.output and "question, characters" in result.output


def test_a_colon_is_not_an_emoji() -> None:
    result = runner.invoke(app, ["data", "inspect", "lab:train", "data.limit=3"])
    assert result.output.startswith("lab:train: All 3 rows are usable.")


def test_export_copies_the_model_without_training_state(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(fake_config(run), build=fake_build, quiet=True)
    result = runner.invoke(app, ["export", str(run), str(tmp_path / "model")])
    assert result.exit_code == 0
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["model.json"]
    again = runner.invoke(app, ["export", str(run), str(tmp_path / "model")])
    assert again.exit_code == 2 and "there already" in again.stderr
    one = run / "checkpoints" / "step-000006"
    assert runner.invoke(app, ["export", str(one), str(tmp_path / "other")]).exit_code == 0


def test_eval_of_a_run_prints_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train(fake_config(run), build=fake_build, quiet=True)
    monkeypatch.setitem(evaluate.__kwdefaults__, "build", fake_build)
    result = runner.invoke(app, ["eval", str(run), "evaluation.samples=2"])
    assert result.exit_code == 0, result.output
    assert "Accuracy at step 6" in result.output and "text" in result.output


def test_check_lists_every_failure_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(config: object) -> None:
        raise ModelError("Cannot load model `x`.")

    monkeypatch.setattr("zppo.runs.check.build_student", missing)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("")
    result = runner.invoke(
        app,
        ["check", "data.train=none.jsonl", f"run.dir={tmp_path / 'used'}", "run.trackers=[wandb]"],
        terminal_width=200,
    )
    assert result.exit_code == 1
    for expected in ("No data file", "Cannot load model", "is not a new or empty folder"):
        assert expected in result.output
    assert "skip  teacher  needs: data" in result.output


def test_check_shows_a_prompt_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = fake_build(fake_config(Path("unused")))
    monkeypatch.setattr("zppo.runs.check.build_student", lambda config: parts.step.student)
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 0, result.output
    for kind in ("plain,", "BCQ,", "NCQ,", "compress,", "tokens", "Ready to train"):
        assert kind in result.output
    titles = [line for line in result.output.splitlines() if "question" in line and "╭" in line]
    # The teacher compresses text: the image of the question is not sent along.
    assert ["1 media" in t for t in titles] == ["compress" not in t for t in titles]


def test_version() -> None:
    assert "torch" in runner.invoke(app, ["version"]).output
