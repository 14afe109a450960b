"""Load questions: from the lab, a data file, a saved data set or the hub, with every row that
cannot be used counted and explained (row filters of method section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from zppo.config import DataConfig
from zppo.data import fields
from zppo.data.probes import digest
from zppo.data.row_media import MediaReader
from zppo.data.skips import RowProblem, SkipLog, SkipReport
from zppo.data.sources import RawRow, Source, missing_columns, open_source
from zppo.errors import DataError
from zppo.types import Media, Question


@dataclass(frozen=True, slots=True)
class Dataset:
    """Usable questions in the order of the data, ids unique, and what was left out."""

    questions: list[Question]
    report: SkipReport


def load_questions(spec: str, config: DataConfig) -> Dataset:
    """Read the questions that `spec` names.

    `spec` is `lab:SPLIT`, a .jsonl / .json / .csv / .parquet file, a folder written by
    `datasets.save_to_disk`, or `hf:NAME[:SPLIT]`. Columns are named by `config.columns`; only the
    first `config.limit` rows are read. Media are checked but stay encoded: embedded bytes are
    held in memory, files are not.

    Raises `DataError` when the data cannot be found or read, holds no rows, has a `kind` other
    than short or free, or when more than `config.max_skipped_share` of its rows is unusable.
    """
    if spec.startswith("lab:"):
        return _load_lab(spec, config)
    source = open_source(spec, config.columns)
    builder = _QuestionBuilder(config, source)
    log = SkipLog()
    questions: list[Question] = []
    total = 0
    names: list[str] = []
    for row in islice(source.rows, config.limit):
        total += 1
        names = names or list(row.values or ())
        try:
            questions.append(builder.build(row))
        except RowProblem as problem:
            log.add(problem.at(row.number))
    if not total:
        raise DataError(f"{source.where}: there are no rows.")
    report = log.report(total)
    report.require(source.where, config.max_skipped_share, missing_columns(names, config.columns))
    return Dataset(questions, report)


class _QuestionBuilder:
    """Turns raw rows of one source into questions; knows the ids it has given out."""

    def __init__(self, config: DataConfig, source: Source) -> None:
        self.config = config
        self.where = source.where
        self.media = MediaReader(config, source.folder)
        self.first_row: dict[str, int] = {}

    def build(self, raw: RawRow) -> Question:
        """Raises `RowProblem` naming the field and the reason, or `DataError` for a bad kind."""
        if raw.values is None:
            raise raw.problem or RowProblem("", "not a row")
        row, columns = raw.values, self.config.columns
        kind = fields.kind(row, columns, raw.number, self.where)
        text = fields.question_text(row, columns)
        answer, reference = fields.answer_and_reference(row, columns, self.config.max_answer_chars)
        options = fields.options(row, columns)
        source = fields.optional_text(row, columns.source) or ""
        given = fields.optional_text(row, columns.id)
        media = self.media.media(row)
        question = Question(
            id=given or content_id(text, answer, options, media),
            text=text,
            answer=answer,
            kind=kind,
            options=options,
            media=media,
            reference=reference,
            source=source,
        )
        self._claim(question.id, raw.number, "id" if given else "content")
        return question

    def _claim(self, id: str, number: int, what: str) -> None:
        first = self.first_row.setdefault(id, number)
        if first != number:
            detail = f"same {what} as row {first} ({id})"
            raise RowProblem(self.config.columns.id, f"duplicate {what}", detail)


def content_id(
    text: str, answer: str, options: tuple[str, ...] | None, media: Iterable[Media]
) -> str:
    """16 hex digits of a SHA-256 over what the question says and shows.

    Media count by their content, so the id survives moving or embedding the files.
    """
    sha = hashlib.sha256()
    for piece in (text, answer, *(options or ())):
        sha.update(b"\x01" + hashlib.sha256(piece.encode()).digest())
    for item in media:
        sha.update(b"\x02" + item.kind.encode())
        for part in item.parts:
            sha.update(b"\x03" + digest(part))
    return sha.hexdigest()[:16]


def _load_lab(spec: str, config: DataConfig) -> Dataset:
    """The lab's own puzzles, under the same row filters as any other data."""
    from zppo.lab import puzzles

    try:
        questions = list(islice(puzzles.questions(spec.removeprefix("lab:")), config.limit))
    except (KeyError, ValueError) as error:
        raise DataError(f"`{spec}`: {error.args[0] if error.args else error}") from None
    reader = MediaReader(config, Path.cwd())
    log = SkipLog()
    kept: list[Question] = []
    for number, question in enumerate(questions, start=1):
        try:
            fields.check_answer(question.answer, config.columns, config.max_answer_chars)
            for media in question.media:
                reader.check(media)
            kept.append(question)
        except RowProblem as problem:
            log.add(problem.at(number))
    report = log.report(len(questions))
    report.require(spec, config.max_skipped_share)
    return Dataset(kept, report)
