"""Accuracies of questions, measured once and kept in a file: one line that says whose they are,
then one line a question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zppo.data.questions import select
from zppo.data.skips import Skip, SkipLog, SkipReport
from zppo.errors import DataError
from zppo.types import Question


def read_accuracies(path: Path, identity: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Accuracy by question id. With `identity` the file must hold that student's under those
    settings. A torn last line, left by a kill, is no line. Raises `DataError`."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        rows = [json.loads(line) for line in lines]
        head, *rest = rows or [{"identity": identity}]
        if identity is not None and head["identity"] != identity:
            raise DataError(
                f"`{path}` holds the accuracies of another student or of other settings; name "
                "another file."
            )
        return {row["id"]: float(row["accuracy"]) for row in rest}
    except OSError as error:
        raise DataError(f"Cannot read `{path}`: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{path}` is not a file of `zppo data difficulty`: {error!r}") from None


def append_accuracies(
    path: Path, identity: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Add rows with `id` and `accuracy`; a new file begins with `identity`. Raises `DataError`."""
    try:
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if content else "wb") as file:
            file.seek(whole)
            file.truncate()
            if not whole:
                file.write(json.dumps({"identity": identity}).encode() + b"\n")
            file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    except OSError as error:
        raise DataError(f"Cannot write `{path}`: {error.strerror}") from None


def filter_by_accuracy(
    questions: Sequence[Question], accuracies: Mapping[str, float], most: float
) -> tuple[Sequence[Question], SkipReport]:
    """Questions whose accuracy is at most `most`, in order, and the ones left out: easier ones, and
    those that were not measured."""
    kept: list[int] = []
    log = SkipLog()
    for position, question in enumerate(questions):
        accuracy = accuracies.get(question.id)
        if accuracy is None:
            log.add(Skip(position + 1, "id", "difficulty not measured", question.id))
        elif accuracy > most:
            detail = f"{question.id}: accuracy {accuracy:g}, data.max_accuracy is {most:g}"
            log.add(Skip(position + 1, "id", "too easy", detail))
        else:
            kept.append(position)
    return select(questions, kept), log.report(len(questions))
