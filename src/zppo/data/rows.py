"""Load questions: from the lab, a data file, a saved data set or the hub, with every row that
cannot be used counted and explained (row filters of method section 8)."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from zppo.config import DataConfig
from zppo.data import fields
from zppo.data.builder import QuestionBuilder
from zppo.data.questions import (
    LazyQuestions,
    RowIndex,
    duplicate_skip,
    first_of_each,
    key_of,
)
from zppo.data.raw import RawRow, missing_columns
from zppo.data.row_media import MediaReader
from zppo.data.shapes import columns_of
from zppo.data.skips import EXAMPLES, RowProblem, Skip, SkipLog, SkipReport
from zppo.data.sources import open_source
from zppo.errors import DataError
from zppo.types import Question


@dataclass(frozen=True, slots=True)
class Dataset:
    """Usable questions in the order of the data, ids unique, and what was left out. The questions
    of a file are read when they are asked for."""

    questions: Sequence[Question]
    report: SkipReport


def load_questions(
    spec: str, config: DataConfig, on_skip: Callable[[Skip], None] | None = None
) -> Dataset:
    """Find the questions that `spec` names, and check all of them.

    `spec` is `lab:SPLIT`, a .jsonl / .json / .csv / .parquet / .arrow file, a folder written by
    `datasets.save_to_disk`, or `hf:NAME[:CONFIG][:SPLIT]`. Columns are named by `config.shape` and
    `config.columns`; only the first `config.limit` rows are read. Media are checked in
    `config.workers` threads and stay where they are: neither rows nor media are held in memory.
    `on_skip` is told of every row left out; the report keeps a few of each kind.

    Raises `DataError` when the data cannot be found or read, holds no rows, has a `kind` other
    than short or free, or when more than `config.max_skipped_share` of its rows is unusable.
    """
    if spec.startswith("lab:"):
        return _load_lab(spec, config)
    columns = columns_of(config)
    if config.streaming and config.limit is None:
        raise DataError(
            f"`{spec}`: data.streaming=true needs data.limit, the number of rows to fetch."
        )
    source = open_source(spec, columns, config.limit if config.streaming else None)
    builder = QuestionBuilder(config, columns, source.where, source.folder)
    log = SkipLog(on_skip)
    found = _Found()
    total = 0
    names: list[str] = []
    rows = islice(source.scan(), config.limit)
    for row, result in _checked(rows, builder, config.workers):
        total += 1
        names = names or list(row.values or ())
        if isinstance(result, RowProblem):
            log.add(result.at(row.number))
        else:
            found.add(row, result, builder.gives_id(row))
    if not total:
        raise DataError(f"{source.where}: there are no rows.")
    index, again, first = first_of_each(found.index())
    every = LazyQuestions(source, builder, found.index())
    _log_duplicates(log, found.index(), again, first, every, on_skip is not None)
    report = log.report(total)
    report.require(source.where, config.max_skipped_share, missing_columns(names, columns))
    return Dataset(LazyQuestions(source, builder, index), report)


class _Found:
    """Collects the index of usable rows, a few bytes each."""

    def __init__(self) -> None:
        self.places, self.numbers = array("q"), array("q")
        self.keys, self.given = array("Q"), array("b")

    def add(self, row: RawRow, id: str, given: bool) -> None:
        self.places.append(row.place)
        self.numbers.append(row.number)
        self.keys.append(key_of(id) if given else int(id, 16))
        self.given.append(given)

    def index(self) -> RowIndex:
        return RowIndex(
            np.frombuffer(self.places, dtype=np.int64),
            np.frombuffer(self.numbers, dtype=np.int64),
            np.frombuffer(self.keys, dtype=np.uint64),
            np.frombuffer(self.given, dtype=np.bool_),
        )


def _checked(
    rows: Iterator[RawRow], builder: QuestionBuilder, workers: int
) -> Iterator[tuple[RawRow, str | RowProblem]]:
    """Each row with its question's id, or with what is wrong with it; in order.

    Questions with media are checked in threads: decoders let others run meanwhile.
    """

    def settled(call: Callable[[], Question]) -> str | RowProblem:
        try:
            return call().id
        except RowProblem as problem:
            return problem

    waiting: deque[tuple[RawRow, Callable[[], str | RowProblem]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="zppo-data") as pool:
        for row in rows:
            if _may_have_media(row, builder):
                job = pool.submit(settled, lambda row=row: builder.checked(row))
                waiting.append((row, job.result))
            else:
                done = settled(lambda row=row: builder.checked(row))
                waiting.append((row, lambda done=done: done))
            while len(waiting) > 8 * workers:
                row, result = waiting.popleft()
                yield row, result()
        while waiting:
            row, result = waiting.popleft()
            yield row, result()


def _may_have_media(row: RawRow, builder: QuestionBuilder) -> bool:
    columns, values = builder.columns, row.values or {}
    media = (columns.images, columns.videos, columns.messages)
    return any(values.get((name or "").partition(".")[0]) for name in media)


def _log_duplicates(
    log: SkipLog,
    index: RowIndex,
    again: np.ndarray,
    first: np.ndarray,
    questions: LazyQuestions,
    on_all: bool,
) -> None:
    """Count the rows whose id an earlier row has; the first few, or all, are read once more to
    name it."""
    column = questions.id_column
    for n, (position, earlier) in enumerate(zip(again.tolist(), first.tolist(), strict=True)):
        id = questions[position].id if on_all or n < 2 * EXAMPLES else ""
        log.add(duplicate_skip(index, position, earlier, id, column))


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
