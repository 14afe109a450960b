"""Whatever happens to a row or a media file, it is accepted or rejected by name: no other end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.data_files import LENIENT, encoded, row, write_jsonl, write_video
from zppo.data import load_frames, load_image, load_questions
from zppo.errors import DataError
from zppo.types import Media

COLUMNS = ["id", "question", "answer", "options", "images", "videos", "reference", "source"]
PATHS = st.sampled_from(["a.png", "v.mp4", "none.png", "../a.png", "/", "", "a.png/x", "file:a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | PATHS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["bytes", "path", "frames", "fps"]) | st.text(max_size=3), inner
        )
    ),
    max_leaves=6,
)
CHANGES = st.dictionaries(st.sampled_from(COLUMNS), JSON, max_size=3)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        (Path(name) / "a.png").write_bytes(encoded())
        write_video(Path(name) / "v.mp4", 3)
        yield Path(name)


def check(folder: Path, changed: Any) -> None:
    """One good row and the changed one: the good one always survives."""
    spec = write_jsonl(folder / "data.jsonl", [row(0, id="the good one"), changed])
    data = load_questions(spec, LENIENT)
    assert data.questions[0].id == "the good one"
    assert len(data.questions) + data.report.skipped == data.report.total == 2
    for skips in data.report.examples.values():
        for skip in skips:
            assert skip.row == 2
            assert skip.field in (*COLUMNS, "")
            assert skip.reason and skip.detail
    data.report.summary().encode()
    for question in data.questions:
        assert question.text and question.answer and question.id
        for media in question.media:
            if media.kind == "image":
                load_image(media.parts[0])
            else:
                load_frames(media, 4, 2.0)


@QUICK
@given(changes=CHANGES, dropped=st.sets(st.sampled_from(COLUMNS), max_size=2))
def test_any_value_in_any_column(folder: Path, changes: dict[str, Any], dropped: set[str]) -> None:
    base = row(1, options=["1", "2"], images=["a.png"], videos=["v.mp4"])
    check(folder, {k: v for k, v in (base | changes).items() if k not in dropped})


@QUICK
@given(cut=st.integers(0, 80), junk=st.text(max_size=5))
def test_any_damage_to_a_line(folder: Path, cut: int, junk: str) -> None:
    line = json.dumps(row(1, options=["1"]))
    junk = "".join(c for c in junk if c.isprintable())
    check(folder, line[:cut] + junk + line[cut + 1 :])


@QUICK
@given(kind=JSON)
def test_any_kind_is_known_or_refused(folder: Path, kind: Any) -> None:
    spec = write_jsonl(folder / "data.jsonl", [row(0, kind=kind)])
    if kind in (None, "", "short", "free"):
        assert load_questions(spec, LENIENT).questions[0].kind in ("short", "free")
    else:
        with pytest.raises(DataError, match=r"row 1, kind"):
            load_questions(spec, LENIENT)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8)


def damaged(content: bytes, edits: list[tuple[float, int]], keep: float) -> bytes:
    changed = bytearray(content)
    for place, value in edits:
        changed[min(int(place * len(changed)), len(changed) - 1)] = value
    return bytes(changed[: max(int(keep * len(changed)), 1)])


@pytest.mark.filterwarnings("ignore")  # Pillow comments on what is wrong with a TIFF
@QUICK
@given(
    format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    edits=EDITS,
    keep=st.sampled_from([0.05, 0.5, 1.0]),
)
def test_any_damage_to_an_image(
    folder: Path, format: str, edits: list[tuple[float, int]], keep: float
) -> None:
    content = damaged(encoded(format=format), edits, keep)
    file = folder / f"damaged.{format.lower()}"
    file.write_bytes(content)
    try:
        assert load_image(content).mode == "RGB"
    except DataError as error:
        assert "embedded image" in str(error)
    spec = write_jsonl(folder / "data.jsonl", [row(0), row(1, images=[file.name])])
    report = load_questions(spec, LENIENT).report
    assert all(s.field == "images" for skips in report.examples.values() for s in skips)


@QUICK
@given(edits=EDITS, keep=st.sampled_from([0.3, 0.9, 1.0]))
def test_any_damage_to_a_video(folder: Path, edits: list[tuple[float, int]], keep: float) -> None:
    content = damaged((folder / "v.mp4").read_bytes(), edits, keep)
    try:
        frames, times = load_frames(Media("video", (content,)), 4, 2.0)
    except DataError as error:
        assert "embedded video" in str(error)
        return
    assert len(frames) == len(times) >= 2
    assert times[0] == 0.0 and times == sorted(times)
