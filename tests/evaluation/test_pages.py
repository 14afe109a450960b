"""The documentation against the declarations and the command."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tests.evaluation.benchmarks_page import PAGE, page
from zppo.evaluation.benchmark import Benchmark, shipped
from zppo.evaluation.judging import VARIABLES
from zppo.evaluation.readers import READERS
from zppo.runs.benchmarks import Request

EVALUATION = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")


def test_the_page_is_that_of_the_declarations() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.evaluation.benchmarks_page"


def test_every_option_is_documented() -> None:
    fields = {f.name for f in dataclasses.fields(Request)} - {"target", "suites", "names"}
    options = {f"--{name.replace('_', '-')}" for name in fields - {"overrides"}}
    options |= {"--suite", "--benchmarks", "--list", "--validate", "--model"}
    assert not {option for option in options if option not in EVALUATION}


def test_every_field_of_a_declaration_is_documented() -> None:
    table = set(re.findall(r"^\| `(\w+)` \|", EVALUATION, re.MULTILINE))
    assert set(Benchmark.model_fields) - {"folder"} <= table
    assert {b.reader for b in shipped().values()} <= set(READERS)


def test_every_judge_prompt_is_documented() -> None:
    assert not [name for name in VARIABLES if f"`{name}.j2`" not in EVALUATION]
