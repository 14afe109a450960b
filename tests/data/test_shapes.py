"""Rows in the shapes that others give them become the same questions."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpus_files import mmf_row, vero_row
from tests.data.data_files import LENIENT, encoded, row, write_jsonl
from zppo.config import DataConfig
from zppo.data import Dataset, load_questions
from zppo.data.shapes import SHAPES, columns_of
from zppo.types import Question


def load(folder: Path, shape: str, *rows: Any, **columns: Any) -> Dataset:
    data = LENIENT.model_dump() | {"shape": shape, "columns": columns}
    spec = write_jsonl(folder / "data.jsonl", rows)
    return load_questions(spec, DataConfig.model_validate(data))


def one(folder: Path, shape: str, value: Any, **columns: Any) -> Question:
    found = load(folder, shape, value, **columns)
    assert found.report.skipped == 0, found.report.summary()
    return found.questions[0]


@pytest.fixture(autouse=True)
def picture(tmp_path: Path) -> str:
    (tmp_path / "a.png").write_bytes(encoded())
    return str(tmp_path / "a.png")


def test_every_shape_of_the_config_is_described() -> None:
    field = DataConfig.model_json_schema()["properties"]["shape"]
    assert field["enum"] == list(SHAPES)


def test_columns_named_by_the_config_win_over_the_shape() -> None:
    config = DataConfig.model_validate({"shape": "llava", "columns": {"images": "photo"}})
    columns = columns_of(config)
    assert (columns.messages, columns.images, columns.videos) == ("conversations", "photo", "video")


def test_problem_and_solution(tmp_path: Path) -> None:
    found = one(tmp_path, "problem", {"problem": "1+1?", "answer": 2, "solution": "count"})
    assert (found.text, found.answer, found.reference) == ("1+1?", "2", "count")


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "It is \\boxed{2}."},
]


def test_messages_with_the_answer_in_the_reply_or_in_a_column(tmp_path: Path) -> None:
    found = one(tmp_path, "messages", {"messages": CHAT})
    assert (found.text, found.answer) == ("1+1?", "2")
    assert one(tmp_path, "messages", {"messages": CHAT, "answer": "two"}).answer == "two"
    tagged = [*CHAT[:2], {"role": "assistant", "content": "<think>?</think><answer> 2 </answer>"}]
    assert one(tmp_path, "messages", {"messages": tagged}).answer == "2"


def test_messages_that_hold_their_pictures(tmp_path: Path, picture: str) -> None:
    uri = "data:image/png;base64," + base64.b64encode(encoded(seed=1)).decode()
    content = [
        {"type": "image", "image": "a.png"},
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "text", "text": "Which is larger?"},
    ]
    turn = [{"role": "user", "content": content}]
    found = one(tmp_path, "messages", {"messages": turn, "answer": "B"})
    assert [m.parts[0] for m in found.media] == [picture, encoded(seed=1)]
    assert found.text == "Which is larger?"


def test_llava(tmp_path: Path, picture: str) -> None:
    talk = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "Three"}]
    found = one(tmp_path, "llava", {"id": "l1", "image": "a.png", "conversations": talk})
    assert (found.id, found.text, found.answer) == ("l1", "How many?", "Three")
    assert found.media[0].parts == (picture,)
    text = {"id": 2, "conversations": [{"from": "human", "value": "1+1?"}], "answer": "2"}
    assert one(tmp_path, "sharegpt", text).text == "1+1?"


def test_verl(tmp_path: Path) -> None:
    given = {
        "prompt": [{"role": "user", "content": "1+1?"}],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "data_source": "sums",
    }
    found = one(tmp_path, "verl", given)
    assert (found.text, found.answer, found.source) == ("1+1?", "2", "sums")


@pytest.mark.parametrize(("shape", "given"), [("vero", vero_row(3)), ("mmfinereason", None)])
def test_the_sources_of_the_corpus(tmp_path: Path, shape: str, given: Any) -> None:
    given = given or mmf_row(3, "MMR1")
    content = given["image"]["bytes"]
    given["image"] = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    found = one(tmp_path, shape, given)
    assert found.answer == "3" and found.media[0].parts == (content,)
    assert not found.text.startswith("<image>")


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("<image>\nHow many?", 1, "How many?"),
        ("How many? <image>", 1, "How many?"),
        ("Is <image> like <image>?", 2, "Is image 1 like image 2?"),
        ("<image><image>\nAlike?", 2, "Alike?"),
        ("Which tag shows a picture: <image> or <img>?", 0, None),
    ],
)
def test_placeholders_in_the_text(
    tmp_path: Path, text: str, images: int, expected: str | None
) -> None:
    found = one(tmp_path, "columns", row(question=text, images=["a.png"] * images))
    assert found.text == (expected or text)


@pytest.mark.parametrize(
    ("shape", "given", "field", "reason"),
    [
        (
            "columns",
            row(question="<image><image>?", images=["a.png"]),
            "question",
            "placeholders do not match",
        ),
        ("columns", row(question="<image>", images=["a.png"]), "question", "no question"),
        ("messages", {"messages": CHAT + CHAT}, "messages", "several turns"),
        ("messages", {"messages": CHAT[:1]}, "messages", "no question"),
        ("messages", {"messages": CHAT[:2]}, "answer", "no answer"),
        ("messages", {"messages": 3}, "messages", "wrong type"),
        ("messages", {"messages": ["hi"]}, "messages", "wrong type"),
        ("messages", {"messages": [{"role": "tool", "content": ""}]}, "messages", "wrong type"),
        ("messages", {"messages": [{"role": "user", "content": 3}]}, "messages", "wrong type"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "messages",
            "wrong type",
        ),
        ("vero", {"extra_info": "?"}, "extra_info.question", "no question"),
        ("vero", {"extra_info": {"question": "?"}}, "reward_model.ground_truth", "no answer"),
    ],
)
def test_faults_name_the_column_as_the_file_calls_it(
    tmp_path: Path, shape: str, given: Any, field: str, reason: str
) -> None:
    good = {"columns": row(100), "vero": None, "messages": {"messages": CHAT}}[shape]
    if good is None:
        good = {"extra_info": {"question": "?"}, "reward_model": {"ground_truth": "1"}}
    report = load(tmp_path, shape, good, given).report
    (skip,) = (s for skips in report.examples.values() for s in skips)
    assert (skip.row, skip.field, skip.reason) == (2, field, reason)


def test_a_boxed_gold_answer_is_unpacked(tmp_path: Path) -> None:
    assert one(tmp_path, "columns", row(answer="\\boxed{\\frac{1}{2}}")).answer == "\\frac{1}{2}"
    assert one(tmp_path, "columns", row(answer="\\boxed{1} or 2}")).answer == "\\boxed{1} or 2}"


def test_a_column_that_holds_a_dot_in_its_name(tmp_path: Path) -> None:
    given = {"a.b": "1+1?", "a": {"b": "no"}, "answer": "2"}
    assert one(tmp_path, "columns", given, question="a.b").text == "1+1?"


def test_a_long_json_list_is_read_in_pieces(tmp_path: Path) -> None:
    rows = [row(i, question=f"What is {i}? " + "ö" * (i * 37 % 500)) for i in range(2_000)]
    rows[7]["question"] = "x" * 200_000  # longer than a piece
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    found = load_questions(str(tmp_path / "a.json"), LENIENT).questions
    assert [q.text for q in found] == [r["question"].strip() for r in rows]
    assert found[1_999].id == "q1999" and found[7].text == "x" * 200_000
