"""From the values of a raw row to the text fields of a `Question`.

Every function raises `RowProblem` naming the field and the reason; none raises anything else,
whatever the row holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from zppo.config import ColumnsConfig
from zppo.data.raw import cell
from zppo.data.skips import RowProblem
from zppo.errors import DataError
from zppo.rewards import extract_boxed
from zppo.types import Media, QuestionKind

# GSM8K's own layout: a worked solution, then the gold answer on a last line of its own.
_GSM8K = re.compile(r"^(?P<solution>.*?)\n\s*####[ \t]*(?P<answer>[^\n]*)$", re.DOTALL)
_GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")

Row = Mapping[str, Any]


def question_text(value: Any, column: str) -> str:
    """The question, outer white space removed, never empty."""
    if value is not None and not isinstance(value, str):
        raise RowProblem(column, "wrong type", f"expected text, got {show(value)}")
    text = _clean(value or "", column)
    if not text:
        raise RowProblem(column, "no question", "the question is missing or empty")
    return text


def without_placeholders(text: str, media: Sequence[Media], column: str) -> str:
    """The text without the `<image>` and `<video>` that stand for its media. Ours come before the
    text, so one at its start or end just goes, and one amid the words becomes `image 2`.

    Raises `RowProblem` when the text has placeholders and not one for each of the media.
    """
    for kind in ("image", "video"):
        count = sum(m.kind == kind for m in media)
        pieces = text.split(f"<{kind}>")
        if not count or len(pieces) == 1:
            continue
        if len(pieces) != count + 1:
            detail = f"{len(pieces) - 1} times <{kind}> for {count} {kind}s"
            raise RowProblem(column, "placeholders do not match", detail)
        text = pieces[0]
        for number, piece in enumerate(pieces[1:], start=1):
            amid = text.strip() and any(p.strip() for p in pieces[number:])
            text += (f"{kind} {number}" if amid else "") + piece
    text = text.strip()
    if not text:
        raise RowProblem(column, "no question", "the question is nothing but its media")
    return text


def answer_and_reference(
    value: Any, row: Row, columns: ColumnsConfig, max_chars: int
) -> tuple[str, str | None]:
    """The gold answer of 1 to `max_chars` characters, and the worked solution if there is one.

    Numbers become text (`3.0` is `3`), an answer that is one `\\boxed{}` what stands in it. An
    answer laid out like GSM8K's, a solution with a last line `#### 1,234`, gives the answer
    `1234`, and the solution as reference if no column has it.
    """
    answer = scalar_text(value, columns.answer)
    inside = answer.removeprefix("\\boxed{").removesuffix("}").strip()
    if len(inside) < len(answer) and extract_boxed(answer) == inside:
        answer = inside
    reference = optional_text(row, columns.reference)
    if match := _GSM8K.match(answer):
        answer = match["answer"].strip()
        if _GROUPED.fullmatch(answer):
            answer = answer.replace(",", "")
        reference = reference or match["solution"].strip() or None
    check_answer(answer, columns, max_chars)
    return answer, reference


def check_answer(answer: str, columns: ColumnsConfig, max_chars: int) -> None:
    """Raise `RowProblem` for an empty answer or one of more than `max_chars` characters."""
    if not answer:
        raise RowProblem(columns.answer, "no answer", "the answer is missing or empty")
    if len(answer) > max_chars:
        detail = f"{len(answer)} characters, data.max_answer_chars is {max_chars}"
        raise RowProblem(columns.answer, "answer too long", detail)


def options(row: Row, columns: ColumnsConfig) -> tuple[str, ...] | None:
    """The choices as text, None where there are none."""
    value = cell(row, columns.options)
    if value is None:
        return None
    if not is_list(value):
        detail = f"expected a list or null, got {show(value)}"
        raise RowProblem(columns.options, "wrong type", detail)
    texts = tuple(scalar_text(option, columns.options) for option in value)
    if not all(texts):
        detail = f"option {texts.index('') + 1} of {len(texts)} is empty"
        raise RowProblem(columns.options, "empty option", detail)
    return texts or None


def kind(row: Row, columns: ColumnsConfig, number: int, where: str) -> QuestionKind:
    """`short` unless the row says `free`.

    Raises `DataError` for any other value: it means that the column is not the one we take it
    for, and skipping rows would hide that.
    """
    value = cell(row, columns.kind)
    if value is None or value == "":
        return "short"
    if value in ("short", "free"):
        return cast(QuestionKind, value)
    raise DataError(
        f"{where}, row {number}, {columns.kind}: {show(value)} is neither `short` (graded by "
        "rule) nor `free` (graded by the judge). If this column means something else, name "
        "another one in data.columns.kind."
    )


def optional_text(row: Row, column: str) -> str | None:
    """Text of a column that may be missing, null or empty (then None)."""
    value = cell(row, column)
    return None if value is None else scalar_text(value, column) or None


def scalar_text(value: Any, column: str) -> str:
    """Text or a finite number as text, stripped; empty for null.

    Numbers are written out without exponent and without a trailing `.0`: 3.0 is `3`, 1e-07 is
    `0.0000001`.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return _clean(value, column)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        detail = f"expected text or a number, got {show(value)}"
        raise RowProblem(column, "wrong type", detail)
    if not isinstance(value, int) and not math.isfinite(value):
        raise RowProblem(column, "wrong type", f"{value} is not a finite number")
    text = format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _clean(text: str, column: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        detail = f"{text[:40]!a} is not valid Unicode (lone surrogate)"
        raise RowProblem(column, "invalid text", detail) from None
    return text.strip()


def show(value: Any) -> str:
    """The type of a value and its start, short enough for a message."""
    text = repr(value) if isinstance(value, str | int | float) else ""
    name = type(value).__name__
    return f"{name} {text[:40]}".strip()
