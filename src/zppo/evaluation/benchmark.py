"""What a benchmark is: a declaration, one YAML file each, and the questions read from its data.

`version` is part of every result. It goes up whenever a change of the file could change a score.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from zppo.config_teacher import Section
from zppo.errors import ConfigError
from zppo.types import Question

Family = Literal["vlm", "llm", "video"]
FAMILIES: tuple[Family, ...] = ("vlm", "llm", "video")

#: A column name, `a|b` for one that has been called `a` and `b`, a list for several columns.
Column = str | list[str]

FOLDER = Path(__file__).parent / "benchmarks"


class Source(Section):
    """Where the rows lie: a data set of the hub, or a file beside the declaration."""

    dataset: str | None = None
    file: str | None = None
    configs: list[str] | None = None
    splits: list[str] = Field(default=["test"], min_length=1)

    @property
    def parts(self) -> list[tuple[str | None, str]]:
        """(config, split) of every part."""
        return [(c, s) for c in (self.configs or [None]) for s in self.splits]

    @property
    def name(self) -> str:
        return self.dataset or self.file or "?"


class Columns(Section):
    """Which column plays which role. `extra` go to the scorer as they are."""

    id: Column | None = None
    question: Column | None = "question"
    options: Column | None = None
    answer: Column = "answer"
    images: Column | None = None
    videos: Column | None = None
    cluster: Column | None = Field(
        default=None, description="rows with one value of it are not independent of each other"
    )
    extra: list[str] = Field(default=[])

    def required(self) -> list[str]:
        """Every column that must exist, alternatives joined by `|`."""
        roles = (self.id, self.question, self.options, self.answer, self.images, self.videos)
        names: list[str] = []
        for role in (*roles, self.cluster, self.extra):
            names += [role] if isinstance(role, str) else role or []
        return list(dict.fromkeys(names))


class Benchmark(Section):
    """One declaration. Its fields are explained in docs/benchmarks.md."""

    key: str
    version: int = Field(ge=1)
    family: Family
    name: str
    sources: list[Source] = Field(min_length=1)
    columns: Columns = Columns()
    reader: str = Field(default="plain", description="a function of `readers.py`")
    gold: Literal["text", "letter", "index", "option"] = "text"
    shuffle: bool = Field(default=False, description="options in an order drawn from the row's id")
    strip: list[str] = Field(default=[], description="format directives taken out of questions")
    preface: str = Field(default="", description="a line before every question")
    scorer: str
    count: int | None = Field(default=None, description="questions; None: not known")
    split_note: str = ""
    breakdown: str | None = Field(default=None, description="the meta field that `parts` go by")
    license: str
    paper: str = ""
    elsewhere: dict[str, str] = Field(default={}, description="its name in other harnesses")
    caveats: list[str] = Field(default=[])
    folder: str = Field(default="", description="where the declaration lies; set by `load`")

    @field_validator("strip")
    @classmethod
    def _compiles(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"`{pattern}` is no regular expression: {error}") from None
        return patterns


@dataclass(frozen=True, slots=True)
class Item:
    """A question of a benchmark.

    `meta` holds what its scorer needs beside the gold answer. `turns` are the (role, content) of
    the conversation before the question. Items of one `cluster` count as one for standard errors.
    """

    question: Question
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    turns: tuple[tuple[str, str], ...] = ()
    cluster: str = ""

    @property
    def id(self) -> str:
        return self.question.id


def load(file: Path) -> Benchmark:
    """Read a declaration. Raises `ConfigError` naming the file and the field."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ConfigError(f"Benchmark `{file}` must be a mapping of fields.")
        return Benchmark.model_validate({**tree, "folder": str(file.parent)})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read benchmark `{file}`: {error}") from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join([f"Benchmark `{file}` cannot be used:", *lines])) from None


@cache
def shipped() -> dict[str, Benchmark]:
    """The paper's 31 benchmarks by key, family by family."""
    found = [load(file) for file in sorted(FOLDER.glob("*.yaml"))]
    found.sort(key=lambda b: FAMILIES.index(b.family))
    return {benchmark.key: benchmark for benchmark in found}


def choose(suites: Sequence[str] = (), names: Sequence[str] = ()) -> list[Benchmark]:
    """The benchmarks of `suites` (families) and those named: a key, or a declaration's file.

    Raises `ConfigError` for a name there is none of, with the nearest.
    """
    chosen: dict[str, Benchmark] = {}
    for suite in suites:
        if suite not in FAMILIES:
            raise ConfigError(f"There is no suite `{suite}`; suites: {', '.join(FAMILIES)}.")
        chosen |= {key: b for key, b in shipped().items() if b.family == suite}
    for name in names:
        benchmark = _named(name)
        if chosen.setdefault(benchmark.key, benchmark) != benchmark:
            raise ConfigError(f"Two benchmarks are called `{benchmark.key}`; rename one.")
    return list(chosen.values())


def _named(name: str) -> Benchmark:
    if name.endswith((".yaml", ".yml")):
        return load(Path(name))
    by_lower = {key.lower(): key for key in shipped()}
    key = by_lower.get(name.lower())
    if key is None:
        near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
        hint = f" Did you mean `{by_lower[near[0]]}`?" if near else ""
        raise ConfigError(
            f"There is no benchmark `{name}`.{hint} `zppo eval --list` shows all; a file that ends "
            "in .yaml declares one of your own."
        )
    return shipped()[key]
