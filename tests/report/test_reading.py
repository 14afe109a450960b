from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.fakes import fake_build, fake_config, questions
from zppo.errors import RunError
from zppo.report.reading import read_run, read_step_log
from zppo.runs.train import resume, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "whole"
    train(fake_config(root), build=fake_build, quiet=True)
    return root


def test_a_run_as_data(finished: Path) -> None:
    run = read_run(finished)
    assert (run.name, run.steps, run.finished) == ("whole", 6, True)
    assert run.config.method == "zppo"
    assert [e.step for e in run.evaluations] == [0, 6]
    assert run.series("accuracy/plain").keys() == set(range(1, 7))
    assert run.total("buffer/admitted") == sum(m["buffer/admitted"] for m in run.metrics)
    assert sum(run.summed("buffer/graduated_from").values()) == run.total("buffer/graduated")
    assert run.data_hash is not None and len(run.data_hash) == 64
    assert {e.accuracy_at_admission for e in run.buffer()} <= {0.0, 0.25}
    assert len(run.buffer()) == run.metrics[-1]["buffer/size"]


def test_rollouts_come_back_as_they_were_logged(finished: Path) -> None:
    run = read_run(finished)
    assert run.rollout_steps() == [1, 2, 3, 4, 5, 6]
    for step in run.rollout_steps():
        log, metrics = run.rollouts(step), run.metrics[step - 1]
        assert len(log.groups) == metrics["groups/total"]
        for kind in ("plain", "bcq", "ncq"):
            rewards = [r.reward for g in log.groups if g.kind == kind for r in g.rollouts]
            assert sum(rewards) == pytest.approx(
                metrics.get(f"accuracy/{kind}", 0.0) * len(rewards)
            )
        assert len(log.teacher or ()) == metrics.get("teacher/questions", 0)
        assert all(r.advantage is not None for g in log.groups for r in g.rollouts)
    bcq = next(g for s in run.rollout_steps() for g in run.rollouts(s).groups if g.kind == "bcq")
    assert sorted(c.correct for c in bcq.candidates) == [False, True]
    pictured = next(g for g in run.rollouts(1).groups if g.media)
    media = {question.id: question.media for question in questions(24)}
    assert run.media(pictured) == media[pictured.question]


def test_accuracy_by_question_agrees_with_the_table(finished: Path) -> None:
    run = read_run(finished)
    for evaluation in run.evaluations:
        rows = run.question_accuracies(evaluation.step)
        assert [r.question for r in rows] == [f"v{i}" for i in range(12)]
        for family in ("image", "text"):
            some = [r.accuracy for r in rows if r.family == family]
            assert sum(some) / len(some) == pytest.approx(evaluation.accuracy[family])


def test_a_run_without_that_file_gives_it_from_its_responses(
    finished: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    shutil.rmtree(old / "accuracies")
    assert read_run(old).question_accuracies(6) == read_run(finished).question_accuracies(6)
    shutil.rmtree(old / "evaluations")
    with pytest.raises(RunError, match="no accuracy by question after step 6"):
        read_run(old).question_accuracies(6)


def test_accuracies_are_kept_without_rollouts_and_cut_back_on_resume(tmp_path: Path) -> None:
    root = tmp_path / "run"
    config = fake_config(root, "run.save_rollouts=false", "evaluation.every=1")
    train(config, build=fake_build, quiet=True)
    before = {p.name: p.read_bytes() for p in (root / "accuracies").iterdir()}
    assert len(before) == 7
    shutil.rmtree(root / "checkpoints" / "step-000006")  # as if killed before it was saved
    resume(root, build=fake_build, quiet=True)
    assert {p.name: p.read_bytes() for p in (root / "accuracies").iterdir()} == before


def test_an_unfinished_run_says_so(finished: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(finished, cut)
    lines = (cut / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_bytes(b"".join(lines[:4]) + b'{"step": 5, "torn')
    assert (read_run(cut).steps, read_run(cut).finished) == (4, False)
    (cut / "metrics.jsonl").write_bytes(b"".join(lines))
    (cut / "evaluations.jsonl").write_text("")
    assert not read_run(cut).finished  # the last evaluation is missing


def test_damaged_logs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "step-000001.jsonl.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(RunError, match=r"step-000001\.jsonl\.gz` is damaged"):
        read_step_log(path, 1)
    path.write_bytes(gzip.compress(json.dumps({"type": "group", "kind": "plain"}).encode()))
    with pytest.raises(RunError, match=r"line 1 lacks .*'question'"):
        read_step_log(path, 1)
    path.write_bytes(gzip.compress(b'{"type": "group"'))
    with pytest.raises(RunError, match="line 1 is not JSON"):
        read_step_log(path, 1)
    path.write_bytes(gzip.compress(b'{"type": "of the future"}\n'))
    assert read_step_log(path, 1).groups == ()


def test_reading_needs_no_torch() -> None:
    code = "import sys, zppo.report.reading\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
