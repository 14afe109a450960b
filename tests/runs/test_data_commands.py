"""`zppo data inspect | validate | split | build | difficulty` through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests import tiny
from tests.data.corpus_files import RECIPE
from tests.data.data_files import encoded, row, write_jsonl
from tests.data.test_corpus import write_sources
from zppo.cli import app
from zppo.config import RECIPES, Config, load_config
from zppo.data.difficulty import append_accuracies, filter_by_accuracy, read_accuracies
from zppo.errors import DataError
from zppo.lab import models
from zppo.runs.build import RunParts, build_data, build_run
from zppo.runs.difficulty import measure_difficulty
from zppo.runs.train import train
from zppo.types import Question


def zppo(*args: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, args)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    loaded = tiny.loaded("vlm")
    models.save(loaded.model, loaded.tokenizer, folder)
    return folder


def hostile(folder: Path) -> Path:
    (folder / "a.png").write_bytes(encoded(120, 110))
    rows = [
        row(1, question="<script>alert(1)</script> \u202e 1+1?", source="<b>x</b>"),
        row(2, images=["a.png"], source="[red]y"),
        row(3, answer=None),
    ]
    return Path(write_jsonl(folder / "data.jsonl", rows))


def test_inspect_makes_a_page_in_which_nothing_acts(tmp_path: Path, model: Path) -> None:
    file, page = hostile(tmp_path), tmp_path / "page.html"
    options = (f"student.model={model}", "student.threads=1", "data.min_pixels=256")
    output = zppo("inspect", file, "--tokens", "--page", page, *options)
    assert "2 of 3 rows are usable" in output and "prompt, tokens" in output
    html = page.read_text()
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html
    assert "\u202e" not in html and "&lt;b&gt;x&lt;/b&gt;" in html
    assert html.count("<article") == 2 and html.count("data:image/webp") == 1
    assert "&lt;|im_start|&gt;user" in html and re.search(r"\d+ tokens</span>", html)
    bare = tmp_path / "bare.html"
    zppo("inspect", file, "--page", bare)
    assert "\\boxed{}" in bare.read_text() and "im_start" not in bare.read_text()


def test_inspect_looks_for_benchmarks(tmp_path: Path) -> None:
    asked = "How many apples are left when Ann eats three of her seventeen?"
    train = write_jsonl(tmp_path / "a.jsonl", [row(1, question=asked.upper()), row(2)])
    bench = write_jsonl(tmp_path / "b.jsonl", [row(9, question=asked)])
    output = zppo("inspect", train, "--against", bench)
    assert re.search(r"1 of 2\s+questions seem to be in", output)
    assert "q1 ~" in output and "q9: 100% of its words" in output


def test_a_benchmark_may_have_another_shape_than_the_data(tmp_path: Path) -> None:
    asked = "How many apples are left when Ann gives two of her nine apples to Bob?"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": "7"}]
    file = write_jsonl(tmp_path / "talk.jsonl", [{"conversations": turns}])
    bench = write_jsonl(tmp_path / "bench.jsonl", [row(1, question=asked)])
    options = ("data.shape=sharegpt", "--against")
    output = zppo("inspect", file, *options, f"columns={bench}")
    assert "1 of 1 questions seem to be in" in output
    assert zppo("inspect", file, *options, bench, code=2)  # read as conversations: there are none


def test_validate_says_no_and_lists_every_row(tmp_path: Path, model: Path) -> None:
    file, problems = hostile(tmp_path), tmp_path / "bad.jsonl"
    output = zppo("validate", file, "--problems", problems, code=1)
    assert "not valid" in output
    (bad,) = map(json.loads, problems.read_text().splitlines())
    assert (bad["row"], bad["field"], bad["reason"]) == (3, "answer", "no answer")
    good = write_jsonl(tmp_path / "good.jsonl", [row(i) for i in range(5)])
    assert "valid" in zppo("validate", good)
    options = (f"student.model={model}", "data.max_prompt_tokens=20")
    assert "all prompts are longer" in zppo("validate", good, "--tokens", *options, code=2)


def test_split_and_build(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [row(i) for i in range(50)])
    assert re.search(r"all\s+│\s+\d+ │\s+\d+", zppo("split", file, tmp_path / "out", "--share=0.3"))
    (tmp_path / "little.yaml").write_text(RECIPE)
    sources = write_sources(tmp_path / "sources")
    local = [f"--from={name}={folder}" for name, folder in sources.items()]
    args = ("build", tmp_path / "little.yaml", tmp_path / "corpus")
    assert "at most 15 questions" in zppo(*args, *local, "--dry-run")
    assert not (tmp_path / "corpus").exists()
    assert "14 questions" in zppo(*args, *local)
    assert "Going on after 4 of 4 files" in zppo(*args, *local)
    assert "write SOURCE=FOLDER" in zppo(*args, "--from=vero", code=2)
    assert "has no source `verro`" in zppo(*args, "--from=verro=/", code=2)


def test_an_image_that_goes_ends_neither_training_nor_evaluation(
    tmp_path: Path, model: Path
) -> None:
    """Gone between the first reading and the step: left out, told, and the run goes on."""
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(encoded(seed=i))
    file = write_jsonl(tmp_path / "data.jsonl", [row(i, images=[f"{i}.png"]) for i in range(6)])
    overrides = [
        *("method=grpo+replay", f"student.model={model}", "student.threads=1"),
        *(f"data.train={file}", f"data.validation={file}", "data.min_pixels=256"),
        *("run.steps=3", "run.prompts_per_step=2", "run.tensorboard=false"),
        *("algorithm.group_size=2", "optimizer.updates_per_step=2", f"run.dir={tmp_path / 'run'}"),
        *("rollout.max_response_tokens=6", "evaluation.max_response_tokens=6"),
    ]
    tree = yaml.safe_load((RECIPES / "lab.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree | {"teacher": None}))

    def build(config: Config) -> RunParts:
        parts = build_run(config)
        (tmp_path / "3.png").unlink()
        (tmp_path / "5.png").write_bytes(encoded()[:-300])
        return parts

    result = train(load_config(tmp_path / "config.yaml", overrides), build=build, quiet=True)
    run = tmp_path / "run"
    left = [json.loads(line) for line in (run / "skipped.jsonl").open()]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    evaluations = [json.loads(line) for line in (run / "evaluations.jsonl").open()]
    assert result.complete and {row["id"] for row in left} == {"q3", "q5"}
    assert [m["data/skipped"] for m in metrics] == [
        sum(row["step"] == step for row in left) for step in (1, 2, 3)
    ]
    assert all(set(e["unreadable"]) == {"q3", "q5"} for e in evaluations)
    assert all(e["questions"]["all"] == 4 for e in evaluations)


# -- difficulty -----------------------------------------------------------------------------------


def measure(folder: Path, model: Path, name: str = "acc.jsonl", *overrides: str) -> Path:
    config = load_config(
        "lab",
        [
            f"student.model={model}",
            "student.threads=1",
            "algorithm.group_size=4",
            "rollout.max_response_tokens=6",
            "rewards.isolate=false",
            *overrides,
        ],
    )
    measure_difficulty(str(folder / "data.jsonl"), folder / name, config)
    return folder / name


def test_accuracies_are_the_same_when_a_run_is_cut(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zppo.runs.difficulty._BATCH", 3)
    write_jsonl(tmp_path / "data.jsonl", [row(i) for i in range(8)])
    whole = measure(tmp_path, model).read_text()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 9 and json.loads(lines[1]) == {"id": "q0", "accuracy": 0.0, "samples": 4}
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(lines[:4]) + lines[4][:9])  # killed within a line
    assert measure(tmp_path, model, "cut.jsonl").read_text() == whole
    with pytest.raises(DataError, match="another student or of other settings"):
        measure(tmp_path, model, "cut.jsonl", "rollout.temperature=0.5")


def test_training_leaves_out_what_is_easy_or_unknown(tmp_path: Path) -> None:
    file = tmp_path / "acc.jsonl"
    rows = [{"id": f"q{i}", "accuracy": i / 4} for i in range(4)]
    append_accuracies(file, {"student": "s"}, rows[:2])
    append_accuracies(file, {"student": "s"}, rows[2:])
    accuracies = read_accuracies(file)
    assert accuracies == {"q0": 0.0, "q1": 0.25, "q2": 0.5, "q3": 0.75}
    questions = [Question(f"q{i}", "?", "1") for i in range(5)]
    kept, report = filter_by_accuracy(questions, accuracies, 0.5)
    assert [q.id for q in kept] == ["q0", "q1", "q2"]
    assert report.counts == {"too easy": 1, "difficulty not measured": 1}
    data = write_jsonl(tmp_path / "data.jsonl", [row(i) for i in range(5)])
    config = load_config("lab", [f"data.train={data}", f"data.difficulty={file}"])
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"validation": None, "max_accuracy": 0.25})}
    )
    found = build_data(config)
    assert [q.id for q in found.train] == ["q0", "q1"]
    assert "too easy" in found.notes()[0]


@pytest.mark.parametrize("content", [b"x\n", b"{}\n{}\n", b"[1]\n[1]\n", b'{"identity": 1}\n3\n'])
def test_other_files_are_no_accuracies(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "acc.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"acc\.jsonl"):
        read_accuracies(tmp_path / "acc.jsonl", {"student": "s"})
    with pytest.raises(DataError, match=r"Cannot read .*none\.jsonl"):
        read_accuracies(tmp_path / "none.jsonl")
