"""The same questions from every format, and the faults of whole files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.data_files import LENIENT, encoded, row, write_jsonl
from zppo.config import DataConfig
from zppo.data import load_questions
from zppo.errors import DataError
from zppo.types import Question


def rows_with_images(folder: Path) -> list[dict[str, Any]]:
    (folder / "a.png").write_bytes(encoded(120, 110))
    return [
        row(0, options=["1", "2"], images=["a.png"], reference=None),
        row(1, options=None, images=[], reference="1 and 1"),
    ]


def questions_of(spec: str | Path) -> list[Question]:
    return list(load_questions(str(spec), DataConfig()).questions)


@pytest.fixture
def expected(tmp_path: Path) -> list[Question]:
    return questions_of(write_jsonl(tmp_path / "data.jsonl", rows_with_images(tmp_path)))


def test_json(tmp_path: Path, expected: list[Question]) -> None:
    (tmp_path / "data.json").write_text(json.dumps(rows_with_images(tmp_path)))
    assert questions_of(tmp_path / "data.json") == expected


def test_csv(tmp_path: Path, expected: list[Question]) -> None:
    with (tmp_path / "data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "question", "answer", "options", "images", "reference"])
        table.writerow(["q0", "What is 0 + 1?", "1", '["1", "2"]', "a.png", ""])
        table.writerow(["q1", "What is 1 + 1?", "2", "", "[]", "1 and 1"])
    assert questions_of(tmp_path / "data.csv") == expected


def test_parquet(tmp_path: Path, expected: list[Question]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows_with_images(tmp_path))
    pq.write_table(table, tmp_path / "data.parquet")
    assert questions_of(tmp_path / "data.parquet") == expected


def test_saved_data_set_keeps_images_encoded(tmp_path: Path, expected: list[Question]) -> None:
    datasets = pytest.importorskip("datasets")
    rows = rows_with_images(tmp_path)
    rows[0]["images"] = [{"bytes": (tmp_path / "a.png").read_bytes(), "path": None}]
    data = datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(str(tmp_path / "embedded.parquet"))
    for spec in ("saved", "embedded.parquet"):
        first, second = questions_of(tmp_path / spec)
        assert first.media[0].parts == ((tmp_path / "a.png").read_bytes(),)
        assert (first.id, first.options, second) == ("q0", ("1", "2"), expected[1])
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(DataError, match=r"several splits.*train"):
        questions_of(tmp_path / "splits")
    assert len(questions_of(tmp_path / "splits" / "train")) == 2


def test_hub_spec_names_data_set_and_split(
    monkeypatch: pytest.MonkeyPatch, expected: list[Question], tmp_path: Path
) -> None:
    """Offline: the call to the hub is replaced, everything after it is real."""
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str, **options: str) -> Any:
        asked.append((name, split))
        if name == "gone":
            raise ConnectionError("no network")
        return datasets.Dataset.from_list([row(0), row(1)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [q.id for q in questions_of("hf:org/name")] == ["q0", "q1"]
    assert len(questions_of("hf:org/name:test[:10]")) == 2
    assert asked == [("org/name", "train"), ("org/name", "test[:10]")]
    with pytest.raises(DataError, match="Cannot load `hf:gone`: ConnectionError: no network"):
        questions_of("hf:gone")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b"\n \n", "no rows"),
        ("a.json", b"[]", "no rows"),
        ("a.csv", b"", "no rows"),
        ("a.csv", b"question,answer\n", "no rows"),
        ("a.json", b"{}", "list of rows, not a dict"),
        ("a.json", b"{}\n{}", "not valid JSON.*jsonl"),
        ("a.json", b"\xff", "not valid JSON"),
        ("a.csv", b"\xff\n", "not a readable CSV"),
        ("a.csv", b'question,answer\n"open', "not a readable CSV"),
        ("a.csv", b"query,answer\n1,2\n", r"no column `question`.*'query', 'answer'"),
        ("a.csv", b"question,answers\n1,2\n", r"data.columns.answer \(`answers`\?\)"),
        ("a.parquet", b"PAR1", "Cannot read"),
        ("a.parquet", b"", "Cannot read"),
        ("a.txt", b"x", "unsupported suffix; use .jsonl"),
    ],
)
def test_unusable_files_say_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        questions_of(tmp_path / name)
    assert name in str(error.value)


def test_rows_of_a_csv_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer,options\n1,2,,x\n1,2,"[1"\n1\n1,2,\n')
    report = load_questions(str(tmp_path / "a.csv"), LENIENT).report
    assert report.counts == {"not a row": 1, "invalid JSON": 1, "no answer": 1}


def test_missing_files_suggest_a_neighbour(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [row()])
    with pytest.raises(DataError, match=r"No data file.*Did you mean `.*train\.jsonl`"):
        questions_of(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match=r"folder .* does not exist"):
        questions_of(tmp_path / "none" / "a.jsonl")
    with pytest.raises(DataError, match=r"not one of datasets\.save_to_disk"):
        questions_of(tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="Cannot read the data set"):
        questions_of(tmp_path / "saved")


def test_reading_needs_neither_torch_nor_the_data_libraries() -> None:
    code = (
        "import sys, zppo.data; heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'av'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
