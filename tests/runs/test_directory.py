from __future__ import annotations

import errno
import gzip
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from tests.runs.fakes import fake_build, fake_config, questions
from zppo.errors import RunError
from zppo.runs import files
from zppo.runs.directory import RunDirectory
from zppo.runs.train import train
from zppo.types import Group, GroupKind, Media, Prompt, Response, Rollout, RolloutStatus


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "whole"
    train(fake_config(root), build=fake_build, quiet=True)
    return root


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = fake_config(tmp_path, "run.dir=null", "method=grpo+replay")
    names = [RunDirectory.create(config).root for _ in range(3)]
    assert [str(n) for n in names] == [f"runs/grpo+replay-{i}" for i in (1, 2, 3)]


def test_a_run_is_never_overwritten(finished: Path) -> None:
    with pytest.raises(RunError, match=rf"already a run.*zppo resume {finished}"):
        RunDirectory.create(fake_config(finished))


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="not empty"):
        RunDirectory.create(fake_config(tmp_path))


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match="is a file"):
        RunDirectory.create(fake_config(tmp_path / "runs"))


def test_what_is_not_a_run_cannot_be_opened(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: it holds no config\.yaml"):
        RunDirectory.open(tmp_path)
    with pytest.raises(RunError, match=r"Runs in .*: whole"):
        RunDirectory.open(finished.parent)


def test_a_folder_that_cannot_be_made_leaves_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot create .*file/run"):
        RunDirectory.create(fake_config(tmp_path / "file" / "run"))


def test_no_permission_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=r"no permission.*run\.dir=FOLDER"):
        RunDirectory.create(fake_config(tmp_path / "run"))


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append_metrics(1, {"loss": 1.0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, limits[1]))  # the next line fits in part
    try:
        with pytest.raises(RunError, match=r"Cannot write .*metrics\.jsonl`"):
            run.append_metrics(2, {"loss": 1.0, "text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run.append_metrics(2, {"loss": 2.0})
    assert [row["loss"] for row in run.metrics()] == [1.0, 2.0]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    files.write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"config\.yaml`: the disk is full"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_failed_build_leaves_no_run(tmp_path: Path) -> None:
    def build(config: object) -> object:
        raise RunError("no such model")

    with pytest.raises(RunError, match="no such model"):
        train(fake_config(tmp_path / "run"), build=build, quiet=True)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_metrics_are_strict_json(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append_metrics(
        1, {"a": float("nan"), "b": np.float32(0.5), "c": {"x": np.int64(3)}, "d": float("inf")}
    )
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=lambda name: pytest.fail(name)) == {
        "step": 1,
        "a": None,
        "b": 0.5,
        "c": {"x": 3},
        "d": None,
    }


def test_the_rollout_log_holds_the_step(finished: Path) -> None:
    lines = _lines(finished / "rollouts" / "step-000003.jsonl.gz")
    groups = [line for line in lines if line["type"] == "group"]
    assert {g["kind"] for g in groups} == {"plain", "bcq", "ncq"}
    assert {line["type"] for line in lines} >= {"group", "teacher"}
    for group in groups:
        assert group["question"] and group["gold"] and group["source"].endswith("/sums")
        assert len(group["rollouts"]) == 4
        for rollout in group["rollouts"]:
            assert set(rollout) == {
                "text",
                "reward",
                "status",
                "extracted",
                "tokens",
                "finished",
                "injected",
                "advantage",
            }
    bcq = next(g for g in groups if g["kind"] == "bcq")
    assert sorted(c["correct"] for c in bcq["candidates"]) == [False, True]
    assert all(c["text"] in bcq["prompt"] for c in bcq["candidates"])
    ncq = next(g for g in groups if g["kind"] == "ncq")
    assert not any(c["correct"] for c in ncq["candidates"]) and ncq["wrong_answers"]
    assert any(g["replayed"] for g in groups)


def test_images_are_stored_once_by_content(finished: Path) -> None:
    lines = _lines(finished / "rollouts" / "step-000001.jsonl.gz")
    stored = {p["stored"] for g in lines for m in g.get("media", []) for p in m["parts"]}
    assert stored and all((finished / name).is_file() for name in stored)
    assert len(list((finished / "media").iterdir())) <= 12 + 6


def test_media_come_back_as_they_were(tmp_path: Path) -> None:
    store = RunDirectory(tmp_path).media
    for media in (
        Media("image", (b"\x89PNG...",)),
        Media("video", ("media/a.png", "frame.png"), fps=2.0),
    ):
        assert store.from_dict(json.loads(json.dumps(store.to_dict(media)))) == media
    (tmp_path / "media").joinpath(next((tmp_path / "media").iterdir()).name).write_bytes(b"x")
    with pytest.raises(RunError, match="was changed"):
        store.from_dict(store.to_dict(Media("image", (b"\x89PNG...",))) and _stored(tmp_path))


def _stored(root: Path) -> dict[str, object]:
    name = next((root / "media").iterdir())
    name.write_bytes(b"other")
    return {"kind": "image", "fps": None, "parts": [{"stored": f"media/{name.name}"}]}


def test_text_of_half_a_character_can_be_logged(tmp_path: Path) -> None:
    prompt = Prompt(questions(1)[0], GroupKind.PLAIN, "?")
    response = Response(np.zeros(1, np.int64), None, "\ud83d", True)
    group = Group(prompt, (Rollout(response, 0.0, RolloutStatus.NO_ANSWER),))
    path = RunDirectory(tmp_path).write_evaluation(1, [group])
    assert _lines(path)[0]["rollouts"][0]["text"] == "\ud83d"


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
