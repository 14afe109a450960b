"""docs/configuration.md lists every key of the config with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from zppo.config import (
    Config,
    EndpointConfig,
    LocalTeacherConfig,
    LoraConfig,
    OpenAITeacherConfig,
    ReferenceTeacherConfig,
    ScriptedTeacherConfig,
    SeveralTeachersConfig,
)

DOC = Path(__file__).parents[1] / "docs" / "configuration.md"
ROW = re.compile(
    r"^\| `(?P<key>[a-z_.]+)` \| (?P<default>.+?) \| (?P<meaning>.+) \| (?P<paper>.+) \|$"
)
SECTIONS = {
    *("-", "data", "step", "advantage", "loss", "batch", "rollout", "buffer"),
    *("prompts", "baselines", "evaluation"),
}

#: Sections that are null by default, and the models that describe them.
OPTIONAL = {
    "student.lora": [LoraConfig],
    "teacher": [
        ScriptedTeacherConfig,
        LocalTeacherConfig,
        OpenAITeacherConfig,
        ReferenceTeacherConfig,
        SeveralTeachersConfig,
    ],
    "teacher.endpoints": [EndpointConfig],
}


def config_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, default as YAML prints it) of every setting."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from config_keys(type(default), f"{key}.")
            continue
        yield key, "required" if field.is_required() else f"`{_yaml(default)}`"
        for section in OPTIONAL.get(key, []):
            yield from config_keys(section, f"{key}.")


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


def documented() -> list[re.Match[str]]:
    return [
        row for line in DOC.read_text(encoding="utf-8").splitlines() if (row := ROW.match(line))
    ]


def test_every_key_is_documented_with_its_default() -> None:
    expected: dict[str, str] = {}
    for key, default in config_keys():
        expected.setdefault(key, default)  # `teacher.kind`: of the first kind
    rows = documented()
    found = {row["key"]: row["default"] for row in rows}
    assert found == expected
    assert len(rows) == len(found), "a key is listed twice"


def test_every_row_of_the_page_is_read() -> None:
    """A row that does not match the pattern would escape the check."""
    lines = DOC.read_text(encoding="utf-8").splitlines()
    rows = [
        line for line in lines if line.startswith("|") and not line.startswith(("| key", "|--"))
    ]
    assert len(rows) == len(documented())


def test_every_key_says_where_it_comes_from() -> None:
    assert {row["paper"] for row in documented()} <= SECTIONS
    assert all(len(row["meaning"]) > 2 for row in documented())
