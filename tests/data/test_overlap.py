"""Is a question known from a benchmark; which side of a split does it fall on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.data.data_files import LENIENT, encoded, row, write_jsonl, write_video
from zppo.data import load_questions
from zppo.data.overlap import Reference, ngrams, normal_text, picture_hash
from zppo.data.split import split_questions
from zppo.data.survey import answer_kind, survey
from zppo.errors import DataError
from zppo.types import Media, Question

TEXT = "A train leaves the station at nine and travels for three hours at sixty miles an hour."


def photo(seed: int, side: int = 400) -> Image.Image:
    """Smooth, as photographs are."""
    noise = Image.open(io.BytesIO(encoded(24, 24, seed=seed)))
    return noise.resize((side, side), Image.Resampling.BICUBIC)


def stored(image: Image.Image, format: str = "PNG", **options: int) -> Media:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Media("image", (buffer.getvalue(),))


def known(*questions: Question) -> Reference:
    reference = Reference()
    reference.add(questions, "bench")
    return reference


def test_words_are_compared_whatever_their_dress() -> None:
    assert normal_text("  “\uff37hat”  is\n2+2?") == "what is 2 2"
    assert ngrams("What is 2+2?") == ngrams("what, is: 2 2")
    assert len(ngrams(TEXT)) == len(TEXT.split()) - 7


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        (TEXT.upper().replace(" ", "  "), True),
        (TEXT + " How far does it go in all of that time?", True),
        (TEXT.replace("train", "bus"), True),  # one word of sixteen is in two of nine n-grams
        ("A bus leaves a stop at one and moves for two hours at fifty miles an hour.", None),
        ("How far?", None),
    ],
)
def test_text_questions(text: str, certain: bool | None) -> None:
    match = known(Question("b", TEXT, "180")).match(Question("q", text, "180"))
    assert (match.certain if match else None) == certain
    if match:
        assert match.other == "bench: b" and match.what.endswith("of its words")


def test_pictures_survive_size_and_format_but_not_others() -> None:
    reference = known(Question("b", TEXT, "1", media=(stored(photo(1)),)))
    for changed in (
        stored(photo(1).resize((123, 200))),
        stored(photo(1), "JPEG", quality=40),
        stored(photo(1), "WEBP", quality=40),
    ):
        match = reference.match(Question("q", "Another thing?", "1", media=(changed,)))
        assert match and not match.certain and "its picture" in match.what
        match = reference.match(Question("q", TEXT, "1", media=(changed,)))
        assert match and match.certain and match.other == "bench: b"
    for seed in range(2, 12):
        assert not reference.match(Question("q", "?", "1", media=(stored(photo(seed)),)))
    template = reference.match(Question("q", TEXT, "1", media=(stored(photo(2)),)))
    assert template and not template.certain  # the same words about another picture


def test_colours_tell_pictures_apart_and_plain_ones_tell_nothing() -> None:
    red, green, blue = photo(1).split()
    turned = Image.merge("RGB", (blue, red, green))
    one, other = picture_hash(photo(1)), picture_hash(turned)
    assert one is not None and other is not None and (one != other).any()
    assert picture_hash(Image.new("RGB", (100, 100), "white")) is None


@pytest.mark.parametrize(
    ("answer", "options", "kind", "expected"),
    [
        ("12", None, "short", "integer"),
        ("-1,200", None, "short", "integer"),
        ("0.5", None, "short", "decimal or percentage"),
        ("12%", None, "short", "decimal or percentage"),
        ("\\frac{1}{2}", None, "short", "expression"),
        ("Yes", None, "short", "yes or no"),
        ("C", None, "short", "single letter"),
        ("blue", None, "short", "one word"),
        ("the red car", None, "short", "several words"),
        ("B", ("x", "y"), "short", "option, by letter"),
        ("y", ("x", "y"), "short", "option, by text"),
        ("C", ("x", "y"), "short", "not among the options"),
        ("because", None, "free", "free-form"),
    ],
)
def test_kinds_of_answers(answer: str, options: None, kind: str, expected: str) -> None:
    assert answer_kind(Question("q", "?", answer, kind, options)) == expected  # type: ignore[arg-type]


def test_a_survey_counts_once_what_is_there_once() -> None:
    picture = stored(photo(1))
    questions = [
        Question("a", TEXT, "1", source="x"),
        Question("b", TEXT + "!", "2", source="x"),
        Question("c", "?", "yes", media=(picture,), source="y"),
        Question("d", "?", "no", media=(picture,), source="y"),
        Question("e", "?", "no", media=(Media("image", (b"bad",)),), source="y"),
    ]
    reference = known(questions[0])
    found = survey(questions, lambda q: len(q.text), reference)
    assert (found.same_words, found.same_picture, found.known, found.alike) == (1, 1, 2, 0)
    assert list(found.widths) == [400, 400] and list(found.tokens)[2:] == [1, 1, 1]
    assert found.sources["y"]["image"] == 3 and found.answers["yes or no"] == 3


# -- split ----------------------------------------------------------------------------------------


def write_data(folder: Path) -> list[Question]:
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}.png").write_bytes(encoded(seed=i))
    write_video(folder / "v.mp4", 3)
    rows = [row(i, images=[f"{i % 60}.png"], source="pictures") for i in range(150)]
    rows += [row(200 + i, question=f"What is {i // 2} + 1 ?", source="text") for i in range(80)]
    rows += [row(400, videos=["v.mp4"], options=["401", "2"], kind="free", reference="so")]
    rows += [row(401, videos=[{"frames": ["1.png", "2.png"], "fps": 4}])]
    spec = write_jsonl(folder / "data.jsonl", rows)
    return list(load_questions(spec, LENIENT).questions)


def sides(folder: Path) -> tuple[list[Question], list[Question]]:
    names = ("train.jsonl", "validation.jsonl")
    train, held = (list(load_questions(str(folder / n), LENIENT).questions) for n in names)
    return train, held


def test_a_split_keeps_pictures_and_words_on_one_side(tmp_path: Path) -> None:
    questions = write_data(tmp_path / "data")
    result = split_questions(questions, tmp_path / "out", 0.2, seed=1)
    train, held = sides(tmp_path / "out")
    assert sorted(q.id for q in train + held) == sorted(q.id for q in questions)
    assert result.train.total() == len(train) and result.validation.total() == len(held)
    assert 0.1 < len(held) / len(questions) < 0.3
    for pick in (
        lambda q: {Path(p).resolve() for m in q.media for p in m.parts},
        lambda q: {normal_text(q.text)} if not q.media else set(),
    ):
        one = {item for q in train for item in pick(q)}
        assert one and not one & {item for q in held for item in pick(q)}


def test_rows_written_read_back_as_the_same_questions(tmp_path: Path) -> None:
    questions = write_data(tmp_path / "data")
    embedded = Question("bytes", "?", "1", media=(Media("image", (encoded(seed=99),)),))
    split_questions([*questions, embedded], tmp_path / "out", 0.5)
    found = {q.id: q for side in sides(tmp_path / "out") for q in side}
    for question in questions:
        again = found[question.id]
        assert [[Path(p).resolve() for p in m.parts] for m in again.media] == [
            [Path(p).resolve() for p in m.parts] for m in question.media
        ]
        for name in ("text", "answer", "kind", "options", "reference", "source"):
            assert getattr(again, name) == getattr(question, name)
    assert Path(found["bytes"].media[0].parts[0]).read_bytes() == encoded(seed=99)  # type: ignore[arg-type]


def test_rows_added_later_move_no_others(tmp_path: Path) -> None:
    questions = [Question(f"q{i}", f"What is {i} + {i}?", str(i)) for i in range(300)]
    split_questions(questions[:200], tmp_path / "first", 0.3)
    split_questions(questions, tmp_path / "later", 0.3)
    before, after = (
        {json.loads(line)["id"] for line in (tmp_path / n / "validation.jsonl").open()}
        for n in ("first", "later")
    )
    assert before == {i for i in after if int(i[1:]) < 200}


def test_a_split_with_an_empty_side_or_an_old_folder_is_refused(tmp_path: Path) -> None:
    one = [Question("q", "?", "1")]
    with pytest.raises(DataError, match="fall on one side"):
        split_questions(one, tmp_path / "out", 0.5)
    with pytest.raises(DataError, match="not empty"):
        split_questions(one, tmp_path / "out", 0.5)
