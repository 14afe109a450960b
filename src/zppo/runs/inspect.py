"""`zppo data inspect`: what a data file holds, and what would be left out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.data import load_questions
from zppo.runs.build import build_student
from zppo.types import GroupKind, Prompt, Question


def inspect_data(
    spec: str, config: Config, tokens: bool = False, console: Console | None = None
) -> None:
    """Print counts, the skip report, sources and lengths of the data that `spec` names.

    `tokens` also counts prompt tokens with the student of `config`. Raises `DataError`.
    """
    console = console or Console(highlight=False, emoji=False)
    # Here a bad file is the thing to look at, so no share of bad rows refuses it.
    lenient = config.data.model_copy(update={"max_skipped_share": 1.0})
    found = load_questions(spec, lenient)
    console.print(escape(f"{spec}: {found.report.summary()}"), soft_wrap=True)
    if found.report.skipped:
        console.print(escape(found.report.table()), soft_wrap=True)
    if found.report.share > config.data.max_skipped_share:
        console.print(
            f"[yellow]`zppo train` would refuse it[/yellow]: more than "
            f"data.max_skipped_share={config.data.max_skipped_share:g} of the rows are unusable."
        )
    console.print(_sources(found.questions))
    console.print(_lengths(found.questions, _token_counts(found.questions, config, tokens)))


def _sources(questions: Sequence[Question]) -> Table:
    table = Table("source", title="Questions", title_justify="left")
    for name in ("questions", "images", "videos", "options", "free"):
        table.add_column(name, justify="right")
    for source, count in sorted(Counter(q.source for q in questions).items()):
        some = [q for q in questions if q.source == source]
        table.add_row(
            escape(source) or "(none)",
            str(count),
            *(str(sum(m.kind == kind for q in some for m in q.media)) for kind in _MEDIA),
            str(sum(q.options is not None for q in some)),
            str(sum(q.kind == "free" for q in some)),
        )
    return table


_MEDIA = ("image", "video")


def _lengths(questions: Sequence[Question], tokens: Sequence[int]) -> Table:
    table = Table("length", title_justify="left", title="Lengths")
    for name in ("min", "median", "95%", "max"):
        table.add_column(name, justify="right")
    rows = {
        "question, characters": [len(q.text) for q in questions],
        "answer, characters": [len(q.answer) for q in questions],
        "prompt, tokens": tokens,
    }
    for name, values in rows.items():
        if len(values):
            marks = np.percentile(values, [0, 50, 95, 100])
            table.add_row(name, *(f"{mark:.0f}" for mark in marks))
    return table


def _token_counts(questions: Sequence[Question], config: Config, wanted: bool) -> list[int]:
    if not wanted:
        return []
    student, templates = build_student(config), Templates.load(config.algorithm.templates)
    return [
        student.prompt_tokens(Prompt(q, GroupKind.PLAIN, templates.plain(q))) for q in questions
    ]
