"""load_questions: what a row becomes, and how each fault is reported."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.data_files import LENIENT, encoded, row, write_jsonl, write_video
from zppo.config import ColumnsConfig, DataConfig, load_config
from zppo.data import Dataset, load_questions
from zppo.errors import DataError
from zppo.types import Question


def load(folder: Path, rows: list[Any], config: DataConfig = LENIENT) -> Dataset:
    return load_questions(write_jsonl(folder / "data.jsonl", rows), config)


def load_one(folder: Path, **changes: Any) -> Question:
    return load(folder, [row(**changes)]).questions[0]


def reject(folder: Path, config: DataConfig = LENIENT, **changes: Any) -> tuple[str, str]:
    """Field and reason of the one bad row, which stands on line 2 after a good one."""
    report = load(folder, [row(100), row(**changes)], config).report
    (skip,) = (s for skips in report.examples.values() for s in skips)
    assert (report.total, report.kept, skip.row) == (2, 1, 2)
    assert report.counts == {skip.reason: 1}
    assert f"row 2, {skip.field}: {skip.detail}" in report.summary()
    return skip.field, skip.reason


def test_all_columns_of_a_row(tmp_path: Path) -> None:
    question = load_one(
        tmp_path, options=["1", 2], kind="free", reference="count", source="toy", id=7
    )
    assert question == Question(
        id="7",
        text="What is 0 + 1?",
        answer="1",
        kind="free",
        options=("1", "2"),
        reference="count",
        source="toy",
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (" 18 ", "18"),
        (18, "18"),
        (3.0, "3"),
        (0.5, "0.5"),
        (1e-7, "0.0000001"),
        (1e22, "1" + "0" * 22),
        (-0.0, "0"),
        (1.10, "1.1"),
        (0, "0"),
        ("\\frac{1}{2}", "\\frac{1}{2}"),
    ],
)
def test_answers_become_text(tmp_path: Path, given: Any, text: str) -> None:
    assert load_one(tmp_path, answer=given).answer == text


def test_gsm8k_layout_gives_answer_and_reference(tmp_path: Path) -> None:
    question = load_one(tmp_path, answer="She makes 9 * 200 = 1800.\n#### 1,800")
    assert (question.answer, question.reference) == ("1800", "She makes 9 * 200 = 1800.")
    own = load_one(tmp_path, answer="steps\n#### (1, 2)", reference="mine")
    assert (own.answer, own.reference) == ("(1, 2)", "mine")
    assert load_one(tmp_path, answer="#### is a heading").answer == "#### is a heading"


def test_empty_lists_and_nulls_mean_none(tmp_path: Path) -> None:
    question = load_one(tmp_path, options=[], images=[], videos=None, kind=None, source=None)
    assert (question.options, question.media, question.kind) == (None, (), "short")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"question": None}, "question", "no question"),
        ({"question": " \n"}, "question", "no question"),
        ({"question": 5}, "question", "wrong type"),
        ({"question": ["a"]}, "question", "wrong type"),
        ({"question": "\ud800"}, "question", "invalid text"),
        ({"answer": None}, "answer", "no answer"),
        ({"answer": ""}, "answer", "no answer"),
        ({"answer": "steps\n#### "}, "answer", "no answer"),
        ({"answer": True}, "answer", "wrong type"),
        ({"answer": ["1"]}, "answer", "wrong type"),
        ({"answer": float("nan")}, "answer", "wrong type"),
        ({"answer": "x" * 513}, "answer", "answer too long"),
        ({"options": "A B"}, "options", "wrong type"),
        ({"options": {"A": "1"}}, "options", "wrong type"),
        ({"options": ["1", None]}, "options", "empty option"),
        ({"options": ["1", ["2"]]}, "options", "wrong type"),
        ({"id": "q100"}, "id", "duplicate id"),
        ({"id": ["q"]}, "id", "wrong type"),
        ({"reference": {}}, "reference", "wrong type"),
        ({"images": [5]}, "images", "wrong type"),
        ({"images": [{}]}, "images", "wrong type"),
        ({"images": ["none.png"]}, "images", "image missing"),
        ({"images": ["a\0b.png"]}, "images", "image missing"),
        ({"images": ["x" * 9000]}, "images", "image missing"),
        ({"images": ["."]}, "images", "image missing"),
        ({"images": ["data.jsonl"]}, "images", "unsupported image format"),
        ({"images": ["http://host/a.png"]}, "images", "remote file"),
        ({"images": ["data:image/png;base64,%%"]}, "images", "invalid data URI"),
        ({"images": ["data:image/png,abc"]}, "images", "invalid data URI"),
        ({"images": ["data:image/png;base64,AAAA"]}, "images", "corrupt image"),
        ({"videos": ["none.mp4"]}, "videos", "video missing"),
        ({"videos": ["data.jsonl"]}, "videos", "unsupported video format"),
        ({"videos": ["one.png"]}, "videos", "too few frames"),
        ({"videos": [[]]}, "videos", "too few frames"),
        ({"videos": [{"frames": 3}]}, "videos", "wrong type"),
        ({"videos": [{"frames": ["a.png", "b.png"], "fps": 0}]}, "videos", "wrong type"),
        ({"videos": [["a.png", "b.png"]]}, "videos", "image missing"),
    ],
)
def test_every_fault_names_row_field_and_reason(
    tmp_path: Path, changes: dict[str, Any], field: str, reason: str
) -> None:
    assert reject(tmp_path, **changes) == (field, reason)


def test_damaged_and_small_media(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(encoded()[:-200])
    (tmp_path / "cut.jpg").write_bytes(encoded(format="JPEG")[:-200])
    (tmp_path / "small.png").write_bytes(encoded(40, 15))
    (tmp_path / "text.mp4").write_text("no video")
    write_video(tmp_path / "small.mp4", 3, size=(64, 8))
    assert reject(tmp_path, images=["cut.png"]) == ("images", "corrupt image")
    assert reject(tmp_path, images=["cut.jpg"]) == ("images", "corrupt image")
    assert reject(tmp_path, images=["small.png"]) == ("images", "image too small")
    assert reject(tmp_path, videos=["text.mp4"]) == ("videos", "corrupt video")
    assert reject(tmp_path, videos=["small.mp4"]) == ("videos", "video too small")
    assert reject(tmp_path, images=["small.png"], id="q100")[1] == "image too small"


def test_images_in_every_form(tmp_path: Path) -> None:
    png = encoded()
    (tmp_path / "a.png").write_bytes(png)
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    path = str(tmp_path / "a.png")
    for given, part in [("a.png", path), (["a.png"], path), ([path], path), ([uri], png)]:
        (media,) = load_one(tmp_path, images=given).media
        assert (media.kind, media.parts, media.fps) == ("image", (part,), None)
    assert len(load_one(tmp_path, images=["a.png", {"path": "a.png", "bytes": None}]).media) == 2


def test_videos_in_every_form(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(encoded())
    write_video(tmp_path / "v.mp4", 3)
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    (film,) = load_one(tmp_path, videos="v.mp4").media
    assert (film.kind, film.parts, film.fps) == ("video", (str(tmp_path / "v.mp4"),), None)
    (frames,) = load_one(tmp_path, videos=["a.png", "b.png"]).media
    assert (frames.kind, frames.parts, frames.fps) == ("video", (a, b), LENIENT.video_fps)
    rated, film = load_one(
        tmp_path, videos=[{"frames": ["b.png", "a.png"], "fps": 4}, "v.mp4"]
    ).media
    assert (rated.parts, rated.fps, len(film.parts)) == ((b, a), 4.0, 1)


def test_an_image_that_many_questions_share_is_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zppo.data.probes as probes

    (tmp_path / "a.png").write_bytes(encoded())
    opened: list[Any] = []
    real = probes.open_image
    monkeypatch.setattr(probes, "open_image", lambda *a: opened.append(a) or real(*a))
    data = load(tmp_path, [row(i, images=["a.png"]) for i in range(5)])
    assert (len(data.questions), len(opened)) == (5, 1)


def test_content_ids_are_stable_and_follow_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(seed=1))
    (tmp_path / "b.png").write_bytes(encoded(seed=2))

    def id_of(**changes: Any) -> str:
        return load_one(tmp_path, **({"id": None} | changes)).id

    plain = id_of()
    assert plain == id_of() == id_of(id="") == "f1ca60b0f0302996"
    uri = "data:image/png;base64," + base64.b64encode(encoded(seed=1)).decode()
    assert id_of(images=["a.png"]) == id_of(images=[uri])  # moving or embedding changes nothing
    variants = [
        {"answer": "2"},
        {"question": "?"},
        {"options": ["1"]},
        {"options": ["1", "2"]},
        {"images": ["a.png"]},
        {"images": ["b.png"]},
        {"images": ["a.png", "b.png"]},
        {"videos": ["a.png", "b.png"]},
    ]
    assert len({plain, *(id_of(**v) for v in variants)}) == len(variants) + 1


def test_rows_without_id_that_say_the_same_are_duplicates(tmp_path: Path) -> None:
    assert load(tmp_path, [row(id=None), row(id=None)]).report.counts == {"duplicate content": 1}


def test_a_kind_nobody_knows_refuses_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2, kind: str 'number' is neither .*columns\.kind"):
        load(tmp_path, [row(0), row(1, kind="number")])


def test_columns_can_be_renamed(tmp_path: Path) -> None:
    columns = ColumnsConfig(question="problem", answer="solution", kind="grading")
    config = DataConfig(columns=columns)
    data = load(tmp_path, [{"problem": "1+1?", "solution": 2, "kind": "number"}], config)
    assert (data.questions[0].text, data.questions[0].answer) == ("1+1?", "2")


def test_limit_reads_only_the_first_rows(tmp_path: Path) -> None:
    config = DataConfig(limit=3)
    data = load(tmp_path, [*(row(i) for i in range(3)), "not json"], config)
    assert (len(data.questions), data.report.total) == (3, 3)


def test_bad_lines_are_named_by_line_number(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    lines = [
        json.dumps(row(0)).encode(),
        b"",
        b"{broken",
        b"[1, 2]",
        b'{"question": "\xff"}',
        b"[" * 100_000,
        b'{"answer": ' + b"9" * 5000 + b"}",
    ]
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    report = load_questions(str(file), LENIENT).report
    assert report.total == 6
    assert report.counts == {"invalid JSON": 3, "not a row": 1, "not UTF-8": 1}
    assert [s.row for s in report.examples["invalid JSON"]] == [3, 6, 7]
    assert report.examples["not UTF-8"][0].row == 5


def test_too_many_bad_rows_refuse_the_file_with_a_table(tmp_path: Path) -> None:
    rows = [row(i) for i in range(80)] + [row(i, answer=None) for i in range(80, 100)]
    with pytest.raises(DataError) as error:
        load(tmp_path, rows, DataConfig())
    message = str(error.value)
    assert "20 of 100 rows (20.0%) are unusable" in message
    assert "data.max_skipped_share=0.1" in message
    assert "20  no answer" in message
    assert message.count("- row ") == 5
    kept = load(tmp_path, rows, DataConfig(max_skipped_share=0.2))
    assert len(kept.questions) == 80
    assert "80 of 100 rows are usable" in kept.report.summary()


def test_no_usable_row_refuses_the_file_and_guesses_the_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 1 rows(?s:.)*data\.columns\.question"):
        load(tmp_path, [{"questions": "1+1?", "answer": 2}])


def test_lab_questions_pass_the_same_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    from zppo.types import Media

    def questions(split: str) -> list[Question]:
        if split != "train":
            raise ValueError(f"no split `{split}`")
        small = (Media("image", (encoded(8, 8),)),)
        return [Question(str(i), "q", "a", media=small if i == 3 else ()) for i in range(20)]

    fake = types.ModuleType("zppo.lab.puzzles")
    fake.questions = questions  # type: ignore[attr-defined]
    lab = types.ModuleType("zppo.lab")
    lab.puzzles = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zppo.lab", lab)
    monkeypatch.setitem(sys.modules, "zppo.lab.puzzles", fake)
    data = load_questions("lab:train", DataConfig(limit=10))
    assert (len(data.questions), data.report.counts) == (9, {"image too small": 1})
    with pytest.raises(DataError, match=r"lab:nope.*no split"):
        load_questions("lab:nope", DataConfig())


def test_the_lab_is_usable_with_its_own_recipe() -> None:
    pytest.importorskip("zppo.lab.puzzles")
    config = load_config("lab").data
    train = load_questions(config.train, config)
    assert train.report.skipped == 0 and len(train.questions) > 0
    with pytest.raises(DataError, match="lab:nope"):
        load_questions("lab:nope", config)
