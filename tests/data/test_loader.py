"""Questions of a step: an image that cannot be read never ends it, and resume meets the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.data_files import LENIENT, encoded, row, write_jsonl
from zppo.data import PromptOrder, StepLoader, load_questions, readable
from zppo.errors import DataError
from zppo.types import Media, Question


def images(folder: Path, count: int) -> list[Question]:
    rows = []
    for i in range(count):
        (folder / f"{i}.png").write_bytes(encoded(seed=i))
        rows.append(row(i, images=[f"{i}.png"]))
    return load_questions(write_jsonl(folder / "data.jsonl", rows), LENIENT).questions  # type: ignore[return-value]


def ids(found: list[Question]) -> list[str]:
    return [q.id for q in found]


def test_a_step_has_the_questions_of_the_order(tmp_path: Path) -> None:
    questions = images(tmp_path, 10)
    with StepLoader(questions, seed=3, size=4, config=LENIENT) as loader:
        for step in (0, 1, 2, 7):
            found = loader.step(step)
            expected = [questions[i].id for i in PromptOrder(10, 3).batch(step, 4)]
            assert (ids(found.questions), found.left) == (expected, [])


def test_a_bad_image_is_replaced_and_the_same_on_resume(tmp_path: Path) -> None:
    questions = images(tmp_path, 10)
    order = PromptOrder(10, 3).batch(1, 4)
    (tmp_path / f"{order[0]}.png").unlink()
    (tmp_path / f"{order[2]}.png").write_bytes(encoded()[:-300])
    with StepLoader(questions, seed=3, size=4, config=LENIENT) as loader:
        loader.step(0)
        found = loader.step(1)
    assert [left.id for left in found.left] == [f"q{order[0]}", f"q{order[2]}"]
    assert "no such file" in found.left[0].reason and "damaged image" in found.left[1].reason
    assert len({*ids(found.questions)}) == 4
    assert not {*ids(found.questions)} & {left.id for left in found.left}
    assert ids(found.questions)[1] == f"q{order[1]}" and ids(found.questions)[3] == f"q{order[3]}"
    with StepLoader(questions, seed=3, size=4, config=LENIENT) as resumed:
        assert resumed.step(1) == found


def test_when_nothing_is_left_the_first_reason_is_told(tmp_path: Path) -> None:
    gone = [Question(str(i), "?", "1", media=(Media("image", ("gone.png",)),)) for i in range(3)]
    with (
        StepLoader(gone, seed=0, size=2, config=LENIENT) as loader,
        pytest.raises(DataError, match=r"Of 3 questions none is left.*gone\.png: no such file"),
    ):
        loader.step(0)


def test_a_row_that_changed_is_left_out_too(tmp_path: Path) -> None:
    spec = write_jsonl(tmp_path / "data.jsonl", [row(i) for i in range(4)])
    questions = load_questions(spec, LENIENT).questions
    write_jsonl(tmp_path / "data.jsonl", [row(i, answer="another") for i in range(4)])
    with (
        StepLoader(questions, seed=0, size=2, config=LENIENT) as loader,
        pytest.raises(DataError, match="was changed while it was in use"),
    ):
        loader.step(0)


def test_readable_tells_the_good_from_the_bad(tmp_path: Path) -> None:
    bad = Question("bad", "?", "1", media=(Media("video", ("gone.mp4",)),))
    good = Question("good", "?", "1", media=(Media("image", (encoded(),)),))
    kept, left = readable([bad, good, bad], LENIENT)
    assert (kept, [why.id for why in left]) == ([good], ["bad", "bad"])
