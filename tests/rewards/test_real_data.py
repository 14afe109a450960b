"""Agreement with human verdicts and with real gold answers, where those files are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zppo.rewards import grade

SHARED = Path(__file__).parents[3] / "shared"
CASES = SHARED / "spec" / "grader_cases.jsonl"
DATA = SHARED / "data"


def rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        pytest.skip(f"{path} is not part of the repository and not here")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def test_agreement_with_human_verdicts() -> None:
    wrong: list[tuple[str, str, str]] = []
    judged = Counter[str]()
    for case in rows(CASES):
        if case["expected"] is None:
            continue
        judged[case["cat"]] += 1
        if grade(case["response"], case["gold"]).correct is not case["expected"]:
            wrong.append((case["cat"], case["gold"], case["response"][-60:]))
    assert not [case for case in wrong if case[0] in ("inject", "hang", "extract")]
    assert len(wrong) <= 0.05 * judged.total(), wrong


@pytest.mark.parametrize("name", ["gsm8k", "math500", "svamp", "aime25", "puzzlevqa", "easy_vqa"])
def test_gold_answers_equal_themselves_and_no_other(name: str) -> None:
    data = rows(DATA / name / "test.jsonl")
    own = sum(
        grade("\\boxed{" + row["answer"] + "}", row["answer"], options=row["options"]).correct
        for row in data
    )
    others = [
        (row["answer"], other["answer"])
        for row, other in zip(data, data[1:] + data[:1], strict=True)
        if row["answer"] != other["answer"]
    ]
    accepted = [(a, b) for a, b in others if grade("\\boxed{" + b + "}", a).correct]
    assert own >= 0.995 * len(data)
    assert len(accepted) <= 0.005 * len(others), accepted  # MATH has x=5 next to 5
