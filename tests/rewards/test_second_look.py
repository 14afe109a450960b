"""Pairs written by somebody who had not seen the grader, verdicts first, to find what it misses.

One row a line: class, gold answer, whole response, whether a person calls it right.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zppo.rewards import grade

FILE = Path(__file__).with_name("second_look.jsonl")
ROWS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", sorted({row["class"] for row in ROWS}))
def test_verdicts_agree(name: str) -> None:
    rows = [row for row in ROWS if row["class"] == name]
    assert [r for r in rows if grade(r["response"], r["gold"]).correct is not r["right"]] == []


def test_every_class_has_both_verdicts_or_is_an_attack() -> None:
    for name in {row["class"] for row in ROWS}:
        verdicts = {row["right"] for row in ROWS if row["class"] == name}
        assert verdicts == {True, False} or (name in ("hang", "inject") and verdicts == {False})


def test_the_gold_answer_in_a_box_is_right() -> None:
    golds = {row["gold"] for row in ROWS if row["gold"]}
    assert [gold for gold in golds if not grade(f"\\boxed{{{gold}}}", gold).correct] == []
