"""`zppo eval` on benchmarks from the command line, its exports, files and progress."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests.evaluation import fixtures
from tests.teacher.server import Server
from zppo.cli import app
from zppo.errors import ConfigError, RunError
from zppo.evaluation.files import append_lines, read_lines
from zppo.evaluation.progress import ProgressLine
from zppo.runs.benchmarks import Request, run_benchmarks, settings


def zppo(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, args)])
    return result.exit_code, result.output


def test_list_shows_all() -> None:
    code, output = zppo("--list")
    assert code == 0
    assert all(key in output for key in ("AI2D", "MM-Vet", "GPQA-D", "VMMMU"))
    assert "14,042" in output and "required" in output and "vlmsareblind" in output
    assert "lmms-lab/ai2d" in output and "…" not in output


def test_validate_says_what_is_wrong(data_root: Path, tmp_path: Path) -> None:
    code, output = zppo("--validate", "--benchmarks", "VBlind", "--data-root", data_root)
    assert code == 0 and "ok  VBlind: 4 questions" in output
    code, output = zppo("--validate", "--benchmarks", "AIME26", "--data-root", data_root)
    assert code == 1 and "the declaration says 30" in output
    code, output = zppo("--validate", "--benchmarks", "AIME26", "--data-root", tmp_path)
    assert code == 1 and "there is no folder" in output


def test_an_evaluation_with_table_and_exports(data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        code, output = zppo(
            "--endpoint", server.url, "--model", "mock", "--benchmarks", "MMLU,AIME26",
            "--data-root", data_root, "--output", tmp_path, "--export", "evalscope",
        )  # fmt: skip
    assert code == 0, output
    assert "75.0" in output and "25.0" in output and "llm (2 of 10)" in output
    assert "by the rule alone" in output
    task = yaml.safe_load((tmp_path / "export" / "evalscope" / "task.yaml").read_text())
    assert task["datasets"] == ["mmlu", "aime26"] and task["api_url"] == server.url
    assert task["generation_config"]["presence_penalty"] == 1.5
    code, output = zppo(
        "--endpoint", server.url, "--model", "mock", "--benchmarks", "MMLU,AIME26",
        "--data-root", data_root, "--output", tmp_path, "--score-only", "--export", "lmms-eval",
    )  # fmt: skip
    assert code == 0, output
    config = yaml.safe_load((tmp_path / "export" / "lmms-eval" / "config.yaml").read_text())
    assert "mmlu" in config["tasks"].split(",") and "temperature=0.6" in config["gen_kwargs"]
    assert config["model_args"] == f"model=mock,base_url={server.url}"
    lines = read_lines(tmp_path / "export" / "lmms-eval" / "samples_mmlu.jsonl")
    assert len(lines) == 4 and "\\boxed" in lines[0]["resps"][0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--score-only"], "name the benchmarks"),
        (["--benchmarks", "NOPE"], "There is no benchmark `NOPE`"),
        (["--suite", "llm", "--export", "excel"], "is not one of lmms-eval, evalscope"),
        (["--suite", "llm", "--predict-only", "--score-only"], "leave nothing to do"),
        (["--suite", "llm", "--judge-model", "x"], "give both"),
        (["--suite", "llm", "--judge-endpoint", "http://x/v1"], "needs --judge-model"),
        (["--suite", "llm", "evaluation.temprature=1"], "did you mean `temperature`"),
        (["--benchmarks", "MMLU", "--endpoint", "nowhere"], "must look like http"),
        (["--suite", "llm"], "CharXiv|HLE"),
    ],
)
def test_mistakes_are_named(args: list[str], message: str) -> None:
    code, output = zppo(*args)
    assert code == 2
    assert any(part in " ".join(output.split()) for part in message.split("|")), output


def test_a_run_gives_its_student_and_not_its_decoding(tmp_path: Path) -> None:
    from zppo.config import dump_config, load_config
    from zppo.runs.directory import RunDirectory

    config = load_config("lab", ["evaluation.temperature=0", "student.threads=1"])
    run = RunDirectory.create(config.model_copy(
        update={"run": config.run.model_copy(update={"dir": str(tmp_path / "run")})}
    ))  # fmt: skip
    assert dump_config(config)
    found = settings(Request(target=str(run.root), names=["AIME25"]))
    assert found.student.threads == 1 and found.student.model == config.student.model
    assert found.evaluation.temperature == 0.6 and found.data.max_pixels == 1280 * 32 * 32
    with pytest.raises(ConfigError, match="tempo"):
        settings(Request(target=str(run.root), overrides=["evaluation.tempo=1"]))


def test_lines_survive_a_kill_in_the_middle_of_one(tmp_path: Path) -> None:
    file = tmp_path / "x" / "lines.jsonl"
    append_lines(file, [{"a": 1}])
    with file.open("ab") as out:
        out.write(b'{"a": 2, "b"')
    assert read_lines(file) == [{"a": 1}]
    append_lines(file, [{"a": 3}, {"a": "\ud800"}])
    assert [row["a"] for row in read_lines(file)] == [1, 3, "?"]
    file.write_text("[1]\n")
    with pytest.raises(RunError, match="no JSON object"):
        read_lines(file)


def test_a_foreign_folder_is_refused(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "MMLU").mkdir()
    (tmp_path / "MMLU" / "predictions.jsonl").write_text("{}\n")
    request = Request(target="m", endpoint="http://127.0.0.1:9/v1", names=["MMLU"],
                      data_root=data_root, output=tmp_path)  # fmt: skip
    with pytest.raises(RunError, match="predictions but no settings"):
        run_benchmarks(request)
    (tmp_path / "result.json").write_text(json.dumps({"schema": 99}))


def test_progress_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("zppo.evaluation.progress.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=100)
    with ProgressLine(console) as line:
        for second, done in ((0, 20), (10, 21), (40, 40), (50, 100)):
            now[0] = second
            line.update("MMLU", "asked", done, 100)
    # From 20 to 40 in 40 s; the first 20 were there already.
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "MMLU: 40/100 asked, about 0:02:00 left\nMMLU: 100/100 asked\n"
    )
