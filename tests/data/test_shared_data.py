"""Real data sets, where a checkout has them beside it; skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from zppo.config import DataConfig
from zppo.data import load_frames, load_image, load_questions
from zppo.errors import DataError
from zppo.types import Media

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no shared data sets here")


@pytest.mark.parametrize(
    ("name", "split", "rows"),
    [
        ("gsm8k", "train", 2000),
        ("gsm8k", "test", 1319),
        ("svamp", "test", 1000),
        ("math500", "test", 500),
        ("puzzlevqa", "train", 400),
        ("puzzlevqa", "test", 100),
    ],
)
def test_every_row_is_usable_with_the_defaults(name: str, split: str, rows: int) -> None:
    data = load_questions(str(DATA / name / f"{split}.jsonl"), DataConfig())
    assert len(data.questions) == rows
    assert data.report.summary() == f"All {rows} rows are usable."
    first = data.questions[0]
    assert first.id.startswith(name) and first.kind == "short"
    assert bool(first.media) == bool(first.options) == (name == "puzzlevqa")
    if first.media:
        assert min(load_image(first.media[0].parts[0]).size) >= 100


def test_images_below_the_papers_size_are_refused_unless_allowed() -> None:
    spec = str(DATA / "easy_vqa" / "train.jsonl")
    with pytest.raises(DataError, match=r"1000  image too small(?s:.)*64 x 64 pixels"):
        load_questions(spec, DataConfig())
    data = load_questions(spec, DataConfig(min_image_side=64))
    assert len(data.questions) == 1000


@pytest.mark.parametrize(
    ("name", "seconds", "size"),
    [("bikes.mp4", 10.0, (640, 272)), ("carphone_distorted.mp4", 4.0, (176, 144))],
)
def test_sample_videos(name: str, seconds: float, size: tuple[int, int]) -> None:
    media = Media("video", (str(DATA / "video_samples" / name),))
    frames, times = load_frames(media, max_frames=64, fps=2.0)
    assert len(frames) == len(times) == round(seconds * 2)
    assert {frame.size for frame in frames} == {size}
    assert times[0] == 0.0 and seconds - 0.1 < times[-1] < seconds
    capped, _ = load_frames(media, max_frames=4, fps=2.0)
    assert [f.tobytes() for f in (capped[0], capped[-1])] == [
        f.tobytes() for f in (frames[0], frames[-1])
    ]
