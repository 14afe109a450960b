"""Random mutations of valid rows of every shape: each is accepted, or rejected with row, field and
reason, and nothing else ever happens.

The default run makes fewer; ZPPO_ROW_MUTATIONS=10000 makes them all.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpus_files import mmf_row, vero_row
from tests.data.data_files import LENIENT, encoded, row, write_video
from zppo.config import DataConfig
from zppo.data import load_frames, load_image, load_questions
from zppo.data.raw import cell
from zppo.data.shapes import columns_of
from zppo.errors import DataError

MUTATIONS = int(os.environ.get("ZPPO_ROW_MUTATIONS", "1200"))
CHUNK = 100  # mutated rows a file

HOSTILE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1e308,
        10**400,
        float("nan"),
        float("inf"),
        "",
        " ",
        "\x00",
        "\ud800",
    ),
    *([], {}, [[]], [None], {"": ""}, "x" * 600, "\u202e", "<image>", "<image><image>", "\\boxed{"),
    *("a.png", "../a.png", "/", "none.png", "v.mp4", "http://h/a.png", "file:///etc/passwd"),
    *("data:image/png;base64,AAAA", "data:,", {"bytes": None, "path": None}, {"bytes": "a.png"}),
    *({"frames": ["a.png"]}, {"frames": ["a.png", "a.png"], "fps": -1}, ["a.png", "v.mp4"]),
    *(
        [{"role": "user", "content": "?"}] * 2,
        [{"from": "human"}],
        {"role": "user"},
        "free",
        "#### ",
    ),
    *(json.dumps({"a": 1}), "__import__('os')", "{{ 7 * 7 }}", "%s" * 9, "1" * 5_000),
]


def valid_rows() -> list[tuple[str, dict[str, Any]]]:
    uri = "data:image/png;base64," + base64.b64encode(encoded()).decode()
    talk = [{"role": "user", "content": "<image>\n1+1?"}, {"role": "assistant", "content": "2"}]
    parts = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "1+1?"}]
    llava = [{"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": "\\boxed{2}"}]
    return [
        ("columns", row(1, options=["1", "2"], images=["a.png"], videos=["v.mp4"], kind="short")),
        ("columns", row(1, images=[uri, {"path": "a.png", "bytes": None}], reference="so")),
        ("columns", row(1, videos=[{"frames": ["a.png", "a.png"], "fps": 2}], source="s")),
        ("columns", row(1, answer="steps\n#### 1,234", id=None)),
        ("problem", {"problem": "1+1?", "answer": 2, "solution": "count"}),
        ("messages", {"messages": talk, "images": ["a.png"]}),
        ("messages", {"messages": [{"role": "user", "content": parts}], "answer": "2"}),
        ("llava", {"id": 7, "image": "a.png", "conversations": llava}),
        ("verl", {"prompt": talk[:1], "images": [uri], "reward_model": {"ground_truth": "2"}}),
        ("vero", vero_row(1) | {"image": uri}),
        ("mmfinereason", mmf_row(1, "MMR1") | {"image": uri}),
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a row, however deep."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    return found + [p for key, item in items for p in places(item, (*path, key))]


def mutate(given: dict[str, Any], rng: random.Random) -> str:
    """A line of a .jsonl file: the row with some places changed, or its text damaged."""
    changed = copy.deepcopy(given)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not (found := places(changed)):
            break
        where = rng.choice(found)
        node: Any = changed
        for key in where[:-1]:
            node = node[key]
        kind, old = rng.randrange(4), node[where[-1]]
        if kind == 0 and isinstance(node, dict):
            del node[where[-1]]
        elif kind == 1 and isinstance(old, str):
            at = rng.randrange(len(old) + 1)
            junk = rng.choice(["\x00", "<image>", "é", "}", "\ud801"])
            node[where[-1]] = old[:at] + junk + old[at:]
        else:
            node[where[-1]] = copy.deepcopy(rng.choice(HOSTILE))
    line = json.dumps(changed)
    if rng.random() < 0.1:
        at = rng.randrange(len(line))
        line = line[:at] + rng.choice(["", "{", '"', "\\", ",", "\x00"]) + line[at + 1 :]
    return line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "a.png").write_bytes(encoded())
    write_video(folder / "v.mp4", 3)
    return folder


@pytest.mark.filterwarnings("ignore")  # Pillow comments on damaged files
def test_every_mutation_is_accepted_or_rejected_by_name(folder: Path) -> None:
    rng = random.Random(20_260_616)
    seen: Counter[str] = Counter()
    shapes = valid_rows()
    for number in range(0, MUTATIONS, CHUNK):
        shape, given = shapes[number // CHUNK % len(shapes)]
        config = DataConfig.model_validate(LENIENT.model_dump() | {"shape": shape})
        lines = [json.dumps(given), *(mutate(given, rng) for _ in range(CHUNK))]
        check(folder, lines, config, seen)
    assert seen.total() >= MUTATIONS
    assert seen["accepted"] > MUTATIONS / 20 and seen["rejected"] > MUTATIONS / 20


def check(folder: Path, lines: list[str], config: DataConfig, seen: Counter[str]) -> None:
    """A file of rows; where a `kind` refuses the whole of it, its rows are tried one by one."""
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(line.encode("utf-8", "surrogatepass") + b"\n" for line in lines))
    rejected: dict[int, tuple[str, str, str]] = {}
    try:
        data = load_questions(
            str(path), config, lambda s: rejected.update({s.row: (s.field, s.reason, str(s))})
        )
    except DataError as error:
        if len(lines) > 1:
            for line in lines:
                check(folder, [line], config, seen)
            return
        # The one row is unusable, or its kind is unknown: both name row and field.
        assert "row 1" in str(error) or "no rows" in str(error), error
        seen["rejected"] += 1
        return
    assert len(data.questions) + len(rejected) == data.report.total <= len(lines)
    columns = columns_of(config)
    known = {name for name in columns.model_dump().values() if name} | {""}
    for number, (field, reason, shown) in rejected.items():
        assert 1 <= number <= len(lines) and field in known, (number, field)
        assert reason and shown.startswith(f"row {number}")
        seen["rejected"] += 1
    for question in data.questions:
        assert question.text and question.answer and question.id
        for media in question.media:
            if media.kind == "image":
                load_image(media.parts[0])
            else:
                load_frames(media, 4, 2.0)
        seen["accepted"] += 1


def test_columns_inside_columns_never_raise() -> None:
    for value in HOSTILE:
        assert cell({"a": value}, "a.b") is None or isinstance(value, dict)
        cell({"a": {"b": value}}, "a.b.c")
