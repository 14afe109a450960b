"""Images that go while a run trains: it goes on, resumes, and is the run it would have been."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.data_files import encoded, row, write_jsonl
from tests.runs.fakes import FakeStudent, comparable, fake_build, fake_config
from zppo.config import Config
from zppo.data.media import load_image
from zppo.errors import RunError
from zppo.runs.build import DataParts, RunParts, build_data
from zppo.runs.train import resume, train

ROWS = 20


def data(folder: Path) -> str:
    rows: list[Any] = []
    for i in range(ROWS):
        (folder / f"{i}.png").write_bytes(encoded(seed=i))
        rows.append({k: v for k, v in row(i, images=[f"{i}.png"]).items() if i % 2 or k != "id"})
    return write_jsonl(folder / "data.jsonl", rows)


def config(root: Path, spec: str, *overrides: str) -> Config:
    small = ("data.min_image_side=16", "evaluation.every=0", "data.validation=null")
    return fake_config(root, f"data.train={spec}", *small, *overrides)


def build(config: Config, student: Callable[[Config], Any] = FakeStudent) -> RunParts:
    parts = fake_build(config)
    object.__setattr__(parts.step, "student", student(config))
    return RunParts(parts.step, DataParts(build_data(config).train, []))


def skipped(root: Path) -> list[dict[str, Any]]:
    file = root / "skipped.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("gone", [(4,), (1, 8)])
def test_a_run_resumes_after_images_have_gone(tmp_path: Path, gone: tuple[int, ...]) -> None:
    spec = data(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        train(config(root, spec, "run.steps=2"), build=build, quiet=True)
    first = build_data(config(whole, spec)).train  # read before anything has gone
    for i in gone:
        (tmp_path / f"{i}.png").unlink()

    def uninterrupted(config: Config) -> RunParts:
        return RunParts(build(config).step, DataParts(first, []))

    resume(whole, ["run.steps=6"], build=uninterrupted, quiet=True)
    resume(cut, ["run.steps=6"], build=build, quiet=True)

    assert comparable(cut) == comparable(whole)
    assert skipped(cut) == skipped(whole) and skipped(cut)


def test_an_image_that_was_changed_makes_it_other_data(tmp_path: Path) -> None:
    spec = data(tmp_path)
    train(config(tmp_path / "run", spec, "run.steps=2"), build=build, quiet=True)
    (tmp_path / "4.png").write_bytes(encoded(seed=99))
    with pytest.raises(RunError, match="training data is not what"):
        resume(tmp_path / "run", ["run.steps=4"], build=build, quiet=True)


def test_a_row_that_was_removed_makes_it_other_data(tmp_path: Path) -> None:
    spec = data(tmp_path)
    train(config(tmp_path / "run", spec, "run.steps=2"), build=build, quiet=True)
    lines = Path(spec).read_text().splitlines(keepends=True)
    Path(spec).write_text("".join(lines[:3] + lines[4:]))
    with pytest.raises(RunError, match="training data is not what"):
        resume(tmp_path / "run", ["run.steps=4"], build=build, quiet=True)


class Looks(FakeStudent):
    """Opens the images it is asked about; some go just before that."""

    steps = 0
    gone: tuple[Path, ...] = ()
    learns_with: Path | None = None

    async def rollout(
        self, prompts: Any, n: int, seed: Any, sampling: object = None
    ) -> AsyncIterator[Any]:
        self.steps += 1
        if self.steps == 3:
            for path in self.gone:
                path.unlink()
        for prompt in prompts:
            for media in prompt.question.media:
                load_image(media.parts[0])
        async for chunk in super().rollout(prompts, n, seed, sampling):
            yield chunk

    async def update(self, groups: Any, advantages: Any, updates: int, seed: Any) -> Any:
        if self.learns_with is not None:
            load_image(str(self.learns_with))
        return await super().update(groups, advantages, updates, seed)


def test_an_image_that_goes_between_the_look_at_it_and_its_use(tmp_path: Path) -> None:
    spec = data(tmp_path)

    def looks(config: Config) -> Looks:
        student = Looks(config)
        student.gone = tuple(tmp_path / f"{i}.png" for i in range(3, 13))
        return student

    run = tmp_path / "run"
    result = train(config(run, spec), build=functools.partial(build, student=looks), quiet=True)
    assert result.complete and result.steps == 6
    assert skipped(run) and all("no such file" in entry["reason"] for entry in skipped(run))
    assert all(row["data/skipped"] == 0 for row in comparable(run)[:1])
    # The step that met it was taken again, and its lines are those of the second attempt alone.
    steps = [entry["step"] for entry in skipped(run)]
    assert steps == sorted(steps)
    counts = [steps.count(step) for step in range(1, 7)]
    assert counts == [row["data/skipped"] for row in comparable(run)]


def test_an_image_that_goes_during_the_update_stops_the_run_with_its_way_on(
    tmp_path: Path,
) -> None:
    spec = data(tmp_path)

    def looks(config: Config) -> Looks:
        student = Looks(config)
        student.learns_with = tmp_path / "never.png"
        return student

    run = tmp_path / "run"
    with pytest.raises(RunError, match=r"never\.png: no such file(?s:.)*zppo resume"):
        train(config(run, spec), build=functools.partial(build, student=looks), quiet=True)
    assert resume(run, build=build, quiet=True).complete
