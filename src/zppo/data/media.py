"""Decode the images and videos of a question, at the moment a prompt is built from them.

Questions hold paths and encoded bytes only; pixels exist while they are needed. The pixel budget
(min_pixels, max_pixels) is the model processor's business, not applied here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zppo.errors import DataError
from zppo.types import Media

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
MAX_PIXELS = 80_000_000  # an image or a video frame beyond it is refused before it is decoded
_ORIENTATION = 0x0112  # the EXIF tag
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # none that runs another program


def load_image(part: str | bytes, name: str = "") -> Image.Image:
    """The image of a path or of encoded bytes as RGB, upright (EXIF), transparency on white.

    `name` is what messages call it. Raises `DataError` when it is missing, no image, damaged or
    larger than `MAX_PIXELS`.
    """
    name = name or part_name(part, "image")
    with open_image(part, name) as image:
        try:
            return _to_rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # the decoders of Pillow raise nearly anything on bad data
            raise DataError(f"{name}: damaged image: {error}") from None


def image_size(part: str | bytes) -> tuple[int, int]:
    """Width and height of what `load_image` returns, from the header alone. Raises `DataError`."""
    with open_image(part, part_name(part, "image")) as header:
        try:
            turned = header.getexif().get(_ORIENTATION, 1) >= 5
        except Exception as error:  # see load_image
            raise DataError(f"{part_name(part, 'image')}: damaged image: {error}") from None
        width, height = header.size
        return (height, width) if turned else (width, height)


def frame_plan(media: Media, max_frames: int, fps: float) -> tuple[list[float], tuple[int, int]]:
    """The times `load_frames` would give, and width and height of its first frame, without
    decoding any. Raises `DataError` when the file cannot be opened."""
    times, chosen = _plan(media, max_frames, fps)
    stamps = [float(times[i] - times[0]) for i in chosen]
    if len(media.parts) > 1:
        size = image_size(media.parts[chosen[0]])
    else:
        with open_video(next(iter(media.parts))) as (_, stream):
            size = stream.width, stream.height
    return ([0.0, 1.0 / fps] if len(stamps) == 1 else stamps), size


def load_frames(media: Media, max_frames: int, fps: float) -> tuple[list[Image.Image], list[float]]:
    """Frames of a video as RGB, and their times in seconds from its first frame.

    Frames are spread evenly over the whole video, about `fps` a second, at least 2 and at most
    `max_frames` (a video of a single frame shows it twice). A list of frames without a rate of
    its own is taken to be at `fps`. Raises `DataError` naming the file when it cannot be decoded.
    """
    times, chosen = _plan(media, max_frames, fps)
    if len(media.parts) > 1:
        frames = [load_image(media.parts[i], part_name(media.parts[i], "frame")) for i in chosen]
    else:
        frames = _decode(next(iter(media.parts)), chosen)
    stamps = [float(times[i] - times[0]) for i in chosen]
    if len(frames) == 1:
        return frames * 2, [0.0, 1.0 / fps]
    return frames, stamps


def part_name(part: str | bytes, noun: str = "file") -> str:
    """What messages call a part: its path, or its size when it is embedded."""
    return part if isinstance(part, str) else f"embedded {noun} ({len(part)} bytes)"


@contextmanager
def open_image(part: str | bytes, name: str) -> Iterator[Image.Image]:
    """The image with its header read and its pixels not; `DataError` when that fails."""
    try:
        source = Path(part) if isinstance(part, str) else io.BytesIO(part)
        image = Image.open(source, formats=_FORMATS)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image ({', '.join(_FORMATS)} are read)") from None
    except Exception as error:  # see load_image
        raise DataError(f"{name}: not a readable image: {error}") from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{name}: {width} x {height} pixels, more than {MAX_PIXELS:,}")
        yield image


@contextmanager
def open_video(part: str | bytes) -> Iterator[tuple[Any, Any]]:
    """PyAV's container and its first video stream, closed afterwards; `DataError` for all that
    goes wrong, also while the caller decodes. Nothing but the file itself is ever opened."""
    import av.error

    name = part_name(part, "video")
    if isinstance(part, str) and not Path(part).is_file():
        raise DataError(f"{name}: no such file")
    try:
        source = str(Path(part).absolute()) if isinstance(part, str) else io.BytesIO(part)
        options = {"protocol_whitelist": "file"} if isinstance(part, str) else {}
        with av.open(source, options=options) as container:
            if not container.streams.video:
                raise DataError(f"{name}: holds no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DataError(f"{name}: no decoder for its video stream")
            if stream.width * stream.height > MAX_PIXELS:
                raise DataError(f"{name}: frames of {stream.width} x {stream.height} pixels")
            yield container, stream
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{name}: not a readable video: {error}") from None


def _plan(media: Media, max_frames: int, fps: float) -> tuple[np.ndarray, list[int]]:
    """Times (F,) of all frames of a video, and the indices of those to show."""
    count = len(media.parts)
    if media.kind != "video" or not count:
        raise DataError(f"expected a video, got {media.kind} with {count} parts")
    if max_frames < 2 or fps <= 0:
        raise ValueError(f"needs max_frames >= 2 and fps > 0, got {max_frames} and {fps}")
    times = np.arange(count) / (media.fps or fps) if count > 1 else _frame_times(media.parts[0])
    return times, _spread(times, fps, max_frames)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip, we scale
        values = np.clip(np.asarray(image), 0, 65535)
        scale = 257 if values.max(initial=0) > 255 else 1
        image = Image.fromarray((values // scale).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _spread(times: np.ndarray, fps: float, max_frames: int) -> list[int]:
    """Indices of the frames nearest to evenly spaced times, first and last included.

    `times` (F,) seconds, ascending. About `fps` a second, 2 to `max_frames`, never one twice.
    """
    count = len(times)
    span = float(times[-1] - times[0])
    length = span * count / max(count - 1, 1)  # the last frame stays on screen as well
    wanted = min(max(round(length * fps), 2), max_frames, count)
    targets = np.linspace(times[0], times[-1], wanted)
    nearest = np.abs(times[None, :] - targets[:, None]).argmin(axis=1)
    return sorted({int(i) for i in nearest})


def _frame_times(part: str | bytes) -> np.ndarray:
    """(F,) display times in seconds, ascending, from the packets alone: nothing is decoded."""
    with open_video(part) as (container, stream):
        stamps = [packet.pts for packet in container.demux(stream) if packet.size]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        base = float(stream.time_base or 0)
    if not stamps:
        raise DataError(f"{part_name(part, 'video')}: holds no frames")
    if base <= 0 or None in stamps or len(set(stamps)) < len(stamps):
        return np.arange(len(stamps)) / rate  # some containers keep no display times
    return np.sort(np.array(stamps, dtype=np.float64)) * base


def _decode(part: str | bytes, chosen: list[int]) -> list[Image.Image]:
    """The chosen frames, by their ascending index in display order. Frames that the decoder
    drops at the end are replaced by the last one there is."""
    wanted = set(chosen)
    frames: list[Image.Image] = []
    last = None
    with open_video(part) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                frames.append(frame.to_image())
            last = frame
            if index == chosen[-1]:
                break
        if last is None:
            raise DataError(f"{part_name(part, 'video')}: no frame can be decoded")
        if len(frames) < len(chosen):
            frames += [last.to_image()] * (len(chosen) - len(frames))
    return frames
