"""The prompt-length filter records how long the left-out prompts were."""

from __future__ import annotations

from zppo.data import filter_by_length
from zppo.types import Question


def test_long_prompts_are_left_out_with_their_length() -> None:
    questions = [Question(str(i), "x" * i, "a") for i in (3, 10, 4, 5)]
    kept, report = filter_by_length(questions, lambda q: len(q.text), limit=4)
    assert [q.id for q in kept] == ["3", "4"]
    assert report.counts == {"prompt too long": 2}
    (first, second) = report.examples["prompt too long"]
    assert str(first) == "row 2, question: 10: 10 tokens, data.max_prompt_tokens is 4"
    assert (second.row, report.kept, report.share) == (4, 2, 0.5)


def test_nothing_to_filter() -> None:
    kept, report = filter_by_length([], lambda q: 0, limit=1)
    assert (kept, report.summary(), report.share) == ([], "All 0 rows are usable.", 0.0)
