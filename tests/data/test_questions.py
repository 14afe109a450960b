"""Questions that are read when they are asked for: any order, any thread, one file."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.data.data_files import LENIENT, encoded, row, write_jsonl
from zppo.config import DataConfig
from zppo.data import LazyQuestions, load_questions, select
from zppo.errors import DataError


def rows_of(count: int) -> list[dict[str, Any]]:
    rows = [row(i, id=None if i % 3 else f"own {i}") for i in range(count)]
    rows[5]["answer"] = None
    rows[8] = rows[7]
    rows[12] = row(12, id="own 3")
    return rows


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"data{suffix}"
    if suffix == ".jsonl":
        return write_jsonl(path, rows)
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, ["id", "question", "answer"])
            table.writeheader()
            table.writerows(rows)
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    else:
        import datasets

        with pa.OSFile(str(path), "wb") as sink:
            found = datasets.Dataset.from_list(rows).data.table
            with pa.ipc.new_stream(sink, found.schema) as writer:
                writer.write_table(found)
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".arrow"])
def test_any_order_gives_what_one_pass_gives(tmp_path: Path, suffix: str) -> None:
    data = load_questions(write(tmp_path, suffix, rows_of(600)), LENIENT)
    questions = data.questions
    assert isinstance(questions, LazyQuestions)
    assert data.report.counts == {"no answer": 1, "duplicate content": 1, "duplicate id": 1}
    everything = list(questions)
    assert len(everything) == len(questions) == 597
    assert len({q.id for q in everything}) == 597
    with ThreadPoolExecutor(4) as pool:
        order = [i * 131 % 597 for i in range(597)]
        assert list(pool.map(questions.__getitem__, order)) == [everything[i] for i in order]
    assert questions[-1] == everything[-1] and list(questions[10:13]) == everything[10:13]
    assert list(select(questions, [5, 3])) == [everything[5], everything[3]]
    with pytest.raises(IndexError):
        questions[597]


def test_duplicates_name_the_row_that_came_first(tmp_path: Path) -> None:
    report = load_questions(write(tmp_path, ".jsonl", rows_of(20)), LENIENT).report
    (content,), (own,) = (report.examples[f"duplicate {what}"] for what in ("content", "id"))
    assert (content.row, own.row) == (9, 13)
    assert "same content as row 8 (" in content.detail
    assert own.detail == "same id as row 4 (own 3)"


def test_every_skip_can_be_heard(tmp_path: Path) -> None:
    rows = [row(i, answer=None if i % 2 else "1") for i in range(40)] + [row(0)] * 9
    heard: list[int] = []
    spec = write(tmp_path, ".jsonl", rows)
    report = load_questions(spec, LENIENT, lambda skip: heard.append(skip.row)).report
    assert len(heard) == report.skipped == 29


def test_embedded_images_stay_in_the_file(tmp_path: Path) -> None:
    import base64

    uri = "data:image/png;base64," + base64.b64encode(encoded()).decode()
    rows = [row(i, id=None, images=[uri]) for i in range(3)]
    found = load_questions(write_jsonl(tmp_path / "a.jsonl", rows), LENIENT).questions
    assert found[1].media[0].parts == (encoded(),)
    again = load_questions(write_jsonl(tmp_path / "b.jsonl", rows), LENIENT).questions
    assert [q.id for q in again] == [q.id for q in found]


def test_a_file_that_changes_or_goes_is_named(tmp_path: Path) -> None:
    spec = write(tmp_path, ".jsonl", rows_of(20))
    questions = load_questions(spec, LENIENT).questions
    write_jsonl(tmp_path / "data.jsonl", [row(0)])
    with pytest.raises(DataError, match=r"data\.jsonl` was changed while it was in use"):
        questions[0]
    (tmp_path / "data.jsonl").unlink()
    with pytest.raises(DataError, match=r"Cannot read `.*data\.jsonl`"):
        list(questions)


def hub_folder(folder: Path) -> Path:
    for name in ("easy", "hard"):
        (folder / name).mkdir(parents=True)
        for split in ("train", "test"):
            rows = [row(i, id=f"{name} {split} {i}") for i in range(30)]
            write_jsonl(folder / name / f"{split}.jsonl", rows)
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(
            f"  - split: {split}\n    path: {name}/{split}.jsonl\n" for split in ("train", "test")
        )
        for name in ("easy", "hard")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_configs_and_splits_of_a_folder_laid_out_like_the_hub(
    tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = hub_folder(tmp_path / "hub")
    config = DataConfig(limit=7, streaming=streaming)
    found = load_questions(f"hf:{folder}:hard:test", config).questions
    assert [q.id for q in found] == [f"hard test {i}" for i in range(7)]
    assert load_questions(f"hf:{folder}:easy:train[:3]", DataConfig()).questions[2].id == (
        "easy train 2"
    )
    with pytest.raises(DataError, match="write hf:NAME"):
        load_questions("hf:a:b:c:d", DataConfig())
    with pytest.raises(DataError, match=r"needs data\.limit"):
        load_questions(f"hf:{folder}", DataConfig(streaming=True))
