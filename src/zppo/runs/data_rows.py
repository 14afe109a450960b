"""The rows that a run trains on, kept so that it can be resumed after one of its images has gone.

Which questions a step takes follows from how many there are. A file that cannot be read any more
must therefore not take its row out of a resumed run: the row stays, and is replaced when its step
comes, as in a run that was not interrupted.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import numpy as np

from zppo.config import DataConfig
from zppo.data import LazyQuestions, readable
from zppo.data.questions import RowIndex
from zppo.errors import DataError
from zppo.runs.checkpoint import questions_hash
from zppo.runs.directory import RunDirectory
from zppo.runs.files import naming, write_atomic
from zppo.types import Question

FILE = "rows.npz"  # 25 bytes a row; absent where the questions are no file's


def keep_rows(run: RunDirectory, questions: Sequence[Question], data_hash: str) -> None:
    """Remember which rows these are. Raises `RunError` when the disk refuses."""
    if not isinstance(questions, LazyQuestions):
        return
    rows, buffer = questions.rows, io.BytesIO()
    np.savez(
        buffer,
        places=rows.places,
        numbers=rows.numbers,
        keys=rows.keys,
        given=rows.given,
        data_sha256=np.array(data_hash),
    )
    write_atomic(run.root / FILE, buffer.getvalue())


def rows_of_run(
    run: RunDirectory, questions: Sequence[Question], config: DataConfig
) -> Sequence[Question]:
    """`questions` as the run began with them, when all that those lack now cannot be read; else
    as they are, for the caller to refuse. Raises `RunError` when the record cannot be read."""
    path = run.root / FILE
    if not isinstance(questions, LazyQuestions) or not path.exists():
        return questions
    try:
        with naming(path, "read"), np.load(path, allow_pickle=False) as saved:
            index = RowIndex(*(saved[name] for name in ("places", "numbers", "keys", "given")))
            data_hash = str(saved["data_sha256"])
    except (ValueError, KeyError, zipfile.BadZipFile):
        return questions
    gone = np.flatnonzero(~np.isin(index.keys, questions.rows.keys))
    if not len(gone) and len(index) == len(questions):
        return questions
    began = questions.at(index)
    try:
        same = questions_hash(began) == data_hash
        kept, _ = readable(began.select(gone), config)
    except DataError:  # the file is another one
        return questions
    return began if same and not kept else questions
