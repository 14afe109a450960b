"""`zppo data inspect` and `validate`: what a data file holds, and what would be left out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zppo.algorithm.prompts import Templates
from zppo.config import ColumnsConfig, Config, DataConfig
from zppo.data import Dataset, Skip, load_questions
from zppo.data.overlap import Reference
from zppo.data.shapes import SHAPES
from zppo.data.survey import Survey, survey
from zppo.errors import RunError
from zppo.rewards import grade
from zppo.runs.build import DataParts, build_student, plain_length, spread, within_length
from zppo.runs.data_page import write_page
from zppo.types import Question

_SAMPLE = 1_000  # gold answers graded against themselves


def inspect_data(
    spec: str,
    config: Config,
    tokens: bool = False,
    against: Sequence[str] = (),
    page: Path | None = None,
    rows: int = 24,
    console: Console | None = None,
) -> None:
    """Print what the data that `spec` names holds: usable rows and why others are not, sources,
    answers, lengths, sizes of images, repetitions.

    `tokens` also counts prompt tokens with the student of `config`. `against` names benchmarks (any
    spec, laid out like the data; `SHAPE=SPEC` for another shape) whose questions and pictures to
    look for. `page` takes `rows` random questions as the
    student will see them. Raises `DataError`.
    """
    console = console or _console()
    found = _lenient(spec, config.data)
    _say_skipped(console, spec, found, config.data)
    student = build_student(config) if tokens else None
    templates = Templates.load(config.algorithm.templates)
    known = _known(against, config.data)
    length = plain_length(student, templates) if student else None
    counted = survey(found.questions, length, known)
    for table in (_sources(counted), _answers(counted), _lengths(counted)):
        console.print(table)
    _say_repeated(console, counted)
    if known:
        _say_known(console, counted, len(found.questions), against)
    if page:
        chosen = np.random.default_rng(config.seed).permutation(len(found.questions))[:rows]
        sample = [found.questions[int(i)] for i in sorted(chosen)]
        write_page(page, spec, sample, student, templates)
        console.print(escape(f"{len(sample)} random questions: {page}"), soft_wrap=True)


def validate_data(
    spec: str,
    config: Config,
    tokens: bool = False,
    problems: Path | None = None,
    console: Console | None = None,
) -> bool:
    """Whether `zppo train` would take the data that `spec` names; prints what is wrong.

    `problems` takes every row left out as a line: row, field, reason, detail. `tokens` also finds
    prompts that are too long for the student of `config`. Raises `DataError`.
    """
    console = console or _console()
    with _lines(problems) as write:
        found = _lenient(spec, config.data, write)
    _say_skipped(console, spec, found, config.data)
    good = found.report.share <= config.data.max_skipped_share and bool(found.questions)
    lost = _ungradable(found.questions)
    if lost:
        console.print(
            escape(
                f"The grader does not match {len(lost)} gold answers with themselves, for instance "
                f"{lost[0].answer!r} (question `{lost[0].id}`); no response could earn a reward."
            ),
            soft_wrap=True,
        )
    if tokens and good:
        parts = DataParts(found.questions, [])
        templates = Templates.load(config.algorithm.templates)
        kept = within_length(parts, build_student(config), templates, config)
        for note in kept.notes():
            console.print(escape(note), soft_wrap=True)
    console.print("[green]valid[/green]" if good else "[red]not valid[/red]")
    if problems:
        console.print(escape(f"every row left out: {problems}"), soft_wrap=True)
    return good


def _console() -> Console:
    return Console(highlight=False, emoji=False)


def _lenient(
    spec: str, config: DataConfig, on_skip: Callable[[Skip], None] | None = None
) -> Dataset:
    """Here a bad file is the thing to look at, so no share of bad rows refuses it."""
    return load_questions(spec, config.model_copy(update={"max_skipped_share": 1.0}), on_skip)


def _known(specs: Sequence[str], config: DataConfig) -> Reference | None:
    if not specs:
        return None
    known = Reference()
    bare = config.model_copy(update={"limit": None, "min_image_side": 1})
    for name in specs:
        shape, _, spec = name.partition("=")
        if spec and shape in SHAPES:  # a benchmark need not be laid out like the data
            own = bare.model_copy(update={"shape": shape, "columns": ColumnsConfig()})
            known.add(_lenient(spec, own).questions, spec)
        else:
            known.add(_lenient(name, bare).questions, name)
    return known


def _ungradable(questions: Sequence[Question]) -> list[Question]:
    sample = [q for q in spread(questions, _SAMPLE) if q.kind == "short"]
    return [
        q
        for q in sample
        if not grade(f"\\boxed{{{q.answer}}}", q.answer, q.kind, q.options).correct
    ]


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[Skip], None] | None]:
    if path is None:
        yield None
        return
    try:
        with path.open("w", encoding="utf-8") as file:

            def write(skip: Skip) -> None:
                file.write(json.dumps(asdict(skip)) + "\n")

            yield write
    except OSError as error:
        raise RunError(f"Cannot write `{path}`: {error.strerror}") from None


# -- what is printed ------------------------------------------------------------------------------


def _say_skipped(console: Console, spec: str, found: Dataset, config: DataConfig) -> None:
    console.print(escape(f"{spec}: {found.report.summary()}"), soft_wrap=True)
    if found.report.skipped:
        console.print(escape(found.report.table()), soft_wrap=True)
    if found.report.share > config.max_skipped_share:
        console.print(
            f"[yellow]`zppo train` would refuse it[/yellow]: more than "
            f"data.max_skipped_share={config.max_skipped_share:g} of the rows are unusable."
        )


def _say_repeated(console: Console, found: Survey) -> None:
    if found.same_words:
        console.print(f"{found.same_words} text questions repeat the words of an earlier one.")
    if found.same_picture:
        console.print(f"{found.same_picture} images or videos were shown by an earlier question.")


def _say_known(console: Console, found: Survey, total: int, against: Sequence[str]) -> None:
    console.print(
        escape(
            f"{found.known} of {total} questions seem to be in {', '.join(against)}; "
            f"{found.alike} more share the words or the picture of one there, not both."
        ),
        soft_wrap=True,
    )
    for match in found.examples:
        console.print(escape(f"  {match.id} ~ {match.other}: {match.what}"), soft_wrap=True)


def _table(title: str, first: str, others: Sequence[str]) -> Table:
    table = Table(first, title=title, title_justify="left")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _sources(found: Survey) -> Table:
    columns = ("questions", "image", "video", "options", "free")
    table = _table("Questions", "source", ("questions", "images", "videos", "options", "free"))
    for source, row in sorted(found.sources.items()):
        table.add_row(escape(source) or "(none)", *(str(row[name]) for name in columns))
    return table


def _answers(found: Survey) -> Table:
    table = _table("Answers", "answer", ("questions",))
    for kind, count in found.answers.most_common():
        table.add_row(kind, str(count))
    return table


def _lengths(found: Survey) -> Table:
    table = _table("Lengths", "length", ("min", "median", "95%", "max"))
    rows = {
        "question, characters": found.question_chars,
        "answer, characters": found.answer_chars,
        "image width, pixels": found.widths,
        "image height, pixels": found.heights,
        "prompt, tokens": found.tokens,
    }
    for name, values in rows.items():
        if len(values):
            marks = np.percentile(values, [0, 50, 95, 100])
            table.add_row(name, *(f"{mark:.0f}" for mark in marks))
    return table
