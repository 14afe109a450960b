"""Procedural puzzles of one skill in three media: add up the digits you are shown.

    text    "Add up the digits of 3859."               the digits stand in the question
    image   "Add up the digits in the image."          a row of coloured cells, one digit each
    video   "Add up the digits in the video."          four frames, one or two cells each

The level is the number of digits. The worked trace keeps the running total, so that every step of
it can be checked. Everything follows from `random.Random(str)`, which hashes with SHA-512 and so
does not depend on PYTHONHASHSEED.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from PIL import Image, ImageDraw

from zppo.lab.glyphs import GLYPHS
from zppo.types import Media, Question

FAMILIES = ("text", "image", "video")
CELL = 16  # pixels a side: one visual token of the lab's models
FRAMES = 4
VIDEO_FPS = 1.0

#: Dark on light, and light on dark.
DARK = ((0, 0, 0), (120, 0, 0), (0, 80, 0), (0, 0, 140), (90, 0, 90))
LIGHT = ((255, 255, 255), (255, 240, 150), (170, 235, 255), (190, 255, 190), (255, 205, 220))

TEXTS: Mapping[str, str] = {
    "text": "Add up the digits of {digits}.",
    "image": "Add up the digits in the image.",
    "video": "Add up the digits in the video.",
}

Scheme = tuple[tuple[int, int, int], tuple[int, int, int]]  # ink, paper
Counts = Mapping[tuple[str, int], int]  # (family, level) -> number of questions


@dataclass(frozen=True, slots=True)
class Split:
    """A named set of questions. Its `salt` keeps its puzzles apart from those of other splits."""

    salt: str
    counts: Counts


def _held_out(family: str, levels: Iterable[int], each: int) -> Counts:
    return {(family, level): each for level in levels}


_TEXT_LEVELS = (3, 4, 5, 6, 7, 8)
_TEXT_TEST = _held_out("text", _TEXT_LEVELS, 16)
_IMAGE_TEST = _held_out("image", _TEXT_LEVELS, 16)
#: Mostly what the student cannot do yet, with enough of what it can.
_TRAIN: Mapping[int, int] = {3: 64, 4: 96, 5: 160, 6: 256, 7: 480, 8: 480}
#: What a student with the habit to stop after five digits (recipe `habit`) gets wrong, and little
#: else. Its plain samples are right once in ten million tries on seven digits and more, and once in
#: ten thousand on six: those are the stepping stone that `habit-near` has and `habit` lacks.
_HABIT: Mapping[int, int] = {4: 96, 5: 160, 7: 480, 8: 480}
_HABIT_NEAR: Mapping[int, int] = {4: 96, 5: 160, 6: 480, 7: 240, 8: 240}
_VIDEO_TEST = _held_out("video", (4, 8), 40)

#: `train` and both of `habit` are what RL sees: no video, as in the paper. The others are held out.
SPLITS: Mapping[str, Split] = {
    "train": Split("train", {(f, n): c for f in ("text", "image") for n, c in _TRAIN.items()}),
    "habit": Split("train", {(f, n): c for f in ("text", "image") for n, c in _HABIT.items()}),
    "habit-near": Split(
        "train", {(f, n): c for f in ("text", "image") for n, c in _HABIT_NEAR.items()}
    ),
    "validation": Split("validation", {**_TEXT_TEST, **_IMAGE_TEST, **_VIDEO_TEST}),
    "text": Split("validation", _TEXT_TEST),
    "image": Split("validation", _IMAGE_TEST),
    "video": Split("validation", _VIDEO_TEST),
}


@lru_cache(maxsize=8)
def _questions(split: str) -> tuple[Question, ...]:
    spec = SPLITS[split]
    made = [
        puzzle(family, level, f"{spec.salt}/{family}/{level}/{i}", number=i)
        for (family, level), count in spec.counts.items()
        for i in range(count)
    ]
    random.Random(f"{split}/order").shuffle(made)
    return tuple(made)


def questions(split: str) -> list[Question]:
    """The questions of a split, in a fixed mixed order."""
    if split not in SPLITS:
        raise ValueError(f"the lab has no split `{split}`; it has {', '.join(SPLITS)}")
    return list(_questions(split))


def puzzle(family: str, level: int, seed: str, number: int = 0) -> Question:
    """One puzzle of `level` digits. The same `seed` gives the same puzzle.

    Held-out and training puzzles never share digits at levels where that leaves room: the sum of
    the digits' squares decides, by `is_held_out`, on which side a digit string lies.
    """
    rng = random.Random(f"zppo-lab/{family}/{level}/{seed}")
    held_out = seed.startswith("validation/")
    while True:
        digits = tuple(rng.randrange(10) for _ in range(level))
        if is_held_out(digits) == held_out:
            break
    media = _draw(family, digits, rng)
    return Question(
        id=f"{family}-{level}-{'v' if held_out else ''}{number:06d}",
        text=TEXTS[family].format(digits="".join(map(str, digits))),
        answer=str(sum(digits)),
        media=media,
        reference=response(trace(digits), sum(digits)),
        source=f"{family}/{level}",
    )


def is_held_out(digits: tuple[int, ...]) -> bool:
    """A fixed fifth of all digit strings, the same in every family."""
    return sum((i + 1) * d for i, d in enumerate(digits)) % 5 == 0


# --- worked traces -------------------------------------------------------------------------


def trace(digits: tuple[int, ...]) -> str:
    """ "3 +8=11 +5=16 +9=25": the first digit, then each addition with its running total."""
    totals = list(accumulate(digits))
    steps = [f"+{d}={t}" for d, t in zip(digits[1:], totals[1:], strict=True)]
    return " ".join([str(digits[0]), *steps])


def response(body: str, answer: int | str) -> str:
    """A whole response around a trace, in the format the prompts ask for."""
    return f"<think>\n{body}\n</think>\n\\boxed{{{answer}}}"


def trace_digits(text: str) -> tuple[int, ...]:
    """The digits that a trace written by `trace` adds up."""
    body = text.split("<think>")[-1].split("</think>")[0].strip()
    return tuple(int(d) for d in re.findall(r"(?:^|\+)(\d)", body))


def wrong_response(question: Question, rng: random.Random) -> str:
    """A plausible wrong response: one slip in the worked trace, carried through to the end."""
    digits = trace_digits(question.reference or "")
    while True:
        body, answer = _slip(digits, rng)
        if str(answer) != question.answer:
            return response(body, answer)


def _slip(digits: tuple[int, ...], rng: random.Random) -> tuple[str, int]:
    kind = rng.choice(("misread", "skip", "repeat", "sum"))
    at = rng.randrange(1, len(digits))
    if kind == "sum":
        totals = list(accumulate(digits))
        error = rng.choice((-10, -2, -1, 1, 2, 10))
        if totals[at] + error < 0:
            error = -error
        totals = totals[:at] + [t + error for t in totals[at:]]
        steps = [f"+{d}={t}" for d, t in zip(digits[1:], totals[1:], strict=True)]
        return " ".join([str(digits[0]), *steps]), totals[-1]
    changed = {
        "misread": (*digits[:at], rng.randrange(10), *digits[at + 1 :]),
        "skip": (*digits[:at], *digits[at + 1 :]),
        "repeat": (*digits[: at + 1], digits[at], *digits[at + 1 :]),
    }[kind]
    return trace(changed), sum(changed)


# --- pictures ------------------------------------------------------------------------------


def _draw(family: str, digits: tuple[int, ...], rng: random.Random) -> tuple[Media, ...]:
    if family == "text":
        return ()
    if family == "image":
        return (Media("image", (row_png(digits, rng),)),)
    per_frame, rest = divmod(len(digits), FRAMES)
    if rest or not per_frame:
        raise ValueError(f"a video shows a multiple of {FRAMES} digits, not {len(digits)}")
    frames = [digits[i : i + per_frame] for i in range(0, len(digits), per_frame)]
    parts: tuple[bytes, ...] = ()
    while len(set(parts)) < FRAMES:  # no frame twice, not even by chance
        parts = tuple(row_png(f, rng) for f in frames)
    return (Media("video", parts, fps=VIDEO_FPS),)


def row_png(digits: tuple[int, ...], rng: random.Random) -> bytes:
    """A row of cells, a digit in each, as a PNG. The colours mean nothing."""
    schemes: list[Scheme] = []
    for _ in digits:
        ink, paper = rng.choice(DARK), rng.choice(LIGHT)
        schemes.append((ink, paper) if rng.random() < 0.5 else (paper, ink))
    return cells_png(digits, schemes)


def cells_png(digits: Sequence[int], schemes: Sequence[Scheme]) -> bytes:
    """A row of cells in given (ink, paper) colours."""
    image = Image.new("RGB", (CELL * len(digits), CELL))
    pen = ImageDraw.Draw(image)
    for i, (digit, (ink, paper)) in enumerate(zip(digits, schemes, strict=True)):
        pen.rectangle((i * CELL, 0, (i + 1) * CELL - 1, CELL - 1), fill=paper)
        _pen_digit(pen, digit, i * CELL, ink)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _pen_digit(pen: ImageDraw.ImageDraw, digit: int, left: int, ink: tuple[int, int, int]) -> None:
    """A 5 x 7 glyph, every dot 2 x 2 pixels, in the middle of its cell."""
    for y, row in enumerate(GLYPHS[digit]):
        for x, dot in enumerate(row):
            if dot == "#":
                px, py = left + 3 + 2 * x, 1 + 2 * y
                pen.rectangle((px, py, px + 1, py + 1), fill=ink)
