"""Decoding: pixels as a viewer would see them, frames at the right times, faults by name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.data.data_files import encoded, write_video
from zppo.data.media import load_frames, load_image
from zppo.errors import DataError
from zppo.types import Media


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def grey_of(image: Image.Image) -> float:
    return float(np.asarray(image).mean())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_formats_from_bytes_and_from_a_file(tmp_path: Path, format: str) -> None:
    content = encoded(40, 30, format)
    file = tmp_path / f"a.{format.lower()}"
    file.write_bytes(content)
    for part in (content, str(file)):
        image = load_image(part)
        assert (image.mode, image.size) == ("RGB", (40, 30))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_file_cut_short_is_an_error_that_names_it(tmp_path: Path, format: str) -> None:
    file = tmp_path / f"a.{format.lower()}"
    content = encoded(40, 30, format)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=str(file)):
        load_image(str(file))


def test_transparency_shows_white_and_exif_turns_the_image() -> None:
    clear = Image.new("RGBA", (4, 3), (0, 0, 0, 0))
    assert grey_of(load_image(encode(clear))) == 255
    assert grey_of(load_image(encode(clear.convert("P"), transparency=0))) == 255
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert load_image(encode(Image.new("RGB", (4, 3)), exif=exif)).size == (3, 4)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert np.asarray(load_image(encode(ramp)))[0, :, 0].tolist() == [0, 100, 255]


def test_missing_files_and_bombs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        load_image(str(tmp_path / "none.png"))
    with pytest.raises(DataError, match="not an image"):
        load_image(b"text", name="row 3")
    with pytest.raises(DataError, match=str(tmp_path)):
        load_image(str(tmp_path))
    bomb = bytearray(encoded())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    header = bomb[12:29]
    bomb[29:33] = PngImagePlugin._crc32(bytes(header)).to_bytes(4, "big")
    with pytest.raises(DataError, match="embedded image"):
        load_image(bytes(bomb))
    bomb[16:24] = (9_000).to_bytes(4, "big") * 2
    bomb[29:33] = PngImagePlugin._crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    with pytest.raises(DataError, match="9000 x 9000 pixels"):
        load_image(bytes(bomb))


@pytest.mark.parametrize(
    ("frames", "fps", "cap", "expected"),
    [
        (20, 2.0, 64, [0.0, 0.6, 1.3, 1.9]),  # 2 s at 2 a second
        (20, 2.0, 3, [0.0, 1.0, 1.9]),  # the cap wins
        (20, 0.1, 64, [0.0, 1.9]),  # never fewer than two
        (5, 100.0, 64, [0.0, 0.1, 0.2, 0.3, 0.4]),  # never a frame twice
        (1, 2.0, 64, [0.0, 0.5]),  # but a single one is shown twice
    ],
)
def test_frames_of_a_file(
    tmp_path: Path, frames: int, fps: float, cap: int, expected: list[float]
) -> None:
    path = write_video(tmp_path / "v.mp4", frames)
    for part in (path, Path(path).read_bytes()):
        images, times = load_frames(Media("video", (part,)), cap, fps)
        np.testing.assert_allclose(times, expected, atol=0.051)
        assert len(images) == len(times)
        assert {(image.mode, image.size) for image in images} == {("RGB", (64, 48))}
        if frames > 1:  # grey level 10 * i at 10 frames a second
            np.testing.assert_allclose([grey_of(i) for i in images], np.array(times) * 100, atol=6)


def test_frames_of_a_list_keep_their_rate(tmp_path: Path) -> None:
    frames = []
    for i in range(8):
        file = tmp_path / f"{i}.png"
        Image.new("RGB", (20, 20), (i * 10,) * 3).save(file)
        frames.append(str(file))
    images, times = load_frames(Media("video", tuple(frames), fps=4.0), 64, 2.0)
    assert times == [0.0, 0.5, 1.25, 1.75]
    assert [grey_of(i) for i in images] == [0, 20, 50, 70]
    _, times = load_frames(Media("video", tuple(frames)), 64, 2.0)
    assert times == [i / 2 for i in range(8)]


def test_video_faults_name_the_file(tmp_path: Path) -> None:
    good = write_video(tmp_path / "v.mp4", 10)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(Path(good).read_bytes()[:600])
    for part, message in [
        (str(tmp_path / "none.mp4"), "none.mp4: no such file"),
        (str(tmp_path), "no such file"),
        (str(cut), "cut.mp4"),
        (b"", "embedded video"),
        (encoded()[:50], "embedded video"),
    ]:
        with pytest.raises(DataError, match=message):
            load_frames(Media("video", (part,)), 8, 2.0)
    with pytest.raises(DataError, match=r"none\.png"):
        load_frames(Media("video", (str(tmp_path / "none.png"),) * 2), 8, 2.0)
    with pytest.raises(DataError, match="expected a video"):
        load_frames(Media("image", (good,)), 8, 2.0)
    with pytest.raises(ValueError, match="max_frames >= 2"):
        load_frames(Media("video", (good,)), 1, 2.0)
