"""The puzzles: fixed by their seed, solvable, and drawn as they claim."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from zppo.lab.glyphs import GLYPHS
from zppo.lab.puzzles import (
    CELL,
    FRAMES,
    SPLITS,
    is_held_out,
    puzzle,
    questions,
    trace_digits,
    wrong_response,
)
from zppo.types import Question


def read_cells(png: bytes) -> list[int]:
    """The digits of a row of cells, found by comparing with every glyph, either way round."""
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)
    assert image.shape[0] == CELL and image.shape[1] % CELL == 0
    found: list[int] = []
    for left in range(0, image.shape[1], CELL):
        cell = image[:, left : left + CELL]
        ink = (cell != cell[0, 0]).any(-1)[1:15:2, 3:13:2]
        glyphs = [np.array([[dot == "#" for dot in row] for row in g]) for g in GLYPHS]
        matches = [d for d, g in enumerate(glyphs) if (g == ink).all()]
        assert len(matches) == 1
        found += matches
    return found


def shown_digits(question: Question) -> list[int]:
    if not question.media:
        return [int(d) for d in re.findall(r"\d", question.text)]
    parts = question.media[0].parts
    return [d for part in parts if isinstance(part, bytes) for d in read_cells(part)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_answers_and_traces_follow_from_what_is_shown(split: str):
    for question in questions(split)[:400]:
        digits = shown_digits(question)
        assert question.answer == str(sum(digits))
        assert question.source.split("/")[1] == str(len(digits))
        reference = question.reference or ""
        assert list(trace_digits(reference)) == digits
        total = digits[0]
        steps = re.findall(r"\+(\d)=(\d+)", reference)
        assert len(steps) == len(digits) - 1
        for (added, shown), digit in zip(steps, digits[1:], strict=True):
            total += digit
            assert (int(added), int(shown)) == (digit, total)
        assert reference.endswith(f"</think>\n\\boxed{{{question.answer}}}")


def test_splits_have_the_families_they_promise():
    train, validation = questions("train"), questions("validation")
    assert {q.source.split("/")[0] for q in train} == {"text", "image"}
    assert 2000 <= len(train) <= 4000
    for family in ("text", "image", "video"):
        held_out = [q for q in validation if q.source.startswith(family)]
        assert 60 <= len(held_out) <= 100
        assert {q.id for q in questions(family)} == {q.id for q in held_out}
    ids = [q.id for q in train + validation]
    assert len(ids) == len(set(ids))


def test_no_digit_string_is_on_both_sides():
    train = {tuple(shown_digits(q)) for q in questions("train")}
    held_out = {tuple(shown_digits(q)) for q in questions("validation")}
    assert not train & held_out
    assert all(is_held_out(digits) for digits in held_out)


def test_videos_have_four_frames_that_differ():
    for question in questions("video"):
        (media,) = question.media
        assert media.kind == "video" and len(media.parts) == FRAMES
        assert len(set(media.parts)) == FRAMES


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="no split `tset`; it has train"):
        questions("tset")
    assert set(SPLITS) >= {"train", "validation", "text", "image", "video"}


def test_puzzles_do_not_depend_on_the_hash_seed():
    code = (
        "from zppo.lab.puzzles import questions; import hashlib;"
        "print(hashlib.sha256(repr(questions('validation')).encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(seen) == 1


def test_wrong_responses_are_wrong_and_well_formed():
    rng = random.Random(0)
    for level in range(2, 9):
        for i in range(40):
            question = puzzle("text", level, f"t/{i}")
            wrong = wrong_response(question, rng)
            found = re.fullmatch(r"<think>\n(.+)\n</think>\n\\boxed\{(\d+)\}", wrong)
            assert found and found[2] != question.answer
            assert found[1].split("=")[-1].split(" ")[-1] == found[2]
