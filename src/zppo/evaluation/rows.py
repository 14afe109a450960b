"""From the rows of a benchmark to its items: gold answer, options, media, prompt text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from zppo.config import DataConfig
from zppo.data import fields
from zppo.data.row_media import MediaReader
from zppo.data.skips import RowProblem
from zppo.evaluation.benchmark import Benchmark, Column, Item
from zppo.evaluation.readers import PART, READERS, TURNS, letter
from zppo.evaluation.videos import VideoFinder
from zppo.types import Media, Question

_LABELLED = re.compile(r"^\(?([A-Z])[).:]\s*(.*)$", re.DOTALL)
_ONE_LINE = re.compile(r"(?:^|;)\s*([A-Z])[.:)]\s*(.*?)\s*(?=;\s*[A-Z][.:)]|$)", re.DOTALL)


class RowReader:
    """Reads the rows of one benchmark; `folder` is where relative media paths start."""

    def __init__(self, benchmark: Benchmark, folder: Path, videos: VideoFinder) -> None:
        self.benchmark, self.videos = benchmark, videos
        self.several = len(benchmark.sources[0].parts) > 1
        self.media = MediaReader(DataConfig(min_image_side=1), folder)

    def items(self, row: Mapping[str, Any], number: int) -> Iterable[Item]:
        """The items of a raw row. Raises `RowProblem` naming the column and the reason."""
        try:
            for read in READERS[self.benchmark.reader](row):
                yield self._item(read, number)
        except KeyError as error:
            raise RowProblem(str(error.args[0]), "missing", "the row lacks this column") from None

    def _item(self, row: dict[str, Any], number: int) -> Item:
        columns = self.benchmark.columns
        id = _text(row.get("_id") or _first(row, columns.id)) or str(number)
        if self.several and "_id" not in row:
            id = f"{row[PART]}/{id}"
        text = row.get("_question") or _text(_first(row, columns.question))
        if not text:
            raise RowProblem(str(columns.question), "no question", "the question is empty")
        options = _options(row, columns.options)
        if self.benchmark.shuffle and options:
            options = shuffled(options, id)
        answer = self._gold(row, options)
        question = Question(
            id=id,
            text=prompt_text(text, self.benchmark),
            answer=answer,
            options=tuple(options) if options else None,
            media=self._media(row),
            source=self.benchmark.key,
        )
        meta = {name.split("|")[0].strip("_"): _first(row, name) for name in columns.extra}
        meta["part"] = row[PART]
        cluster = _text(_first(row, columns.cluster)) or id
        return Item(question, meta, row.get(TURNS, ()), cluster)

    def _gold(self, row: dict[str, Any], options: Sequence[str]) -> str:
        name = self.benchmark.columns.answer
        value = row["_gold"] if "_gold" in row else _first(row, name)
        if isinstance(value, list | tuple):  # several accepted answers; the scorer has them all
            value = value[0] if value else None
        text = _text(value)
        if not text:
            raise RowProblem(str(name), "no answer", "the gold answer is missing or empty")
        match self.benchmark.gold:
            case "letter" | "index" if "_gold" not in row:
                text = letter(text, str(name))
            case "option":
                if text not in options:
                    raise RowProblem(str(name), "no option", f"{text[:40]!r} is none of them")
                text = ascii_uppercase[options.index(text)]
            case _:
                pass
        if self.benchmark.gold != "text" and options and _place(text) >= len(options):
            raise RowProblem(str(name), "no option", f"{text} is beyond {len(options)} options")
        return text

    def _media(self, row: dict[str, Any]) -> tuple[Media, ...]:
        columns = self.benchmark.columns
        images = row["_images"] if "_images" in row else _all(row, columns.images)
        media = self.media.media({"images": [i for i in images if i not in (None, "")]})
        if columns.videos is None:
            return media
        name = row.get("_video") or _text(_first(row, columns.videos))
        return (*media, self.videos.find(str(name), str(row[PART])))


def prompt_text(text: str, benchmark: Benchmark) -> str:
    """The question without the benchmark's own format directives (method section 9), which the
    shared closer replaces."""
    for pattern in benchmark.strip:
        text = re.sub(pattern, "", text, flags=re.IGNORECASE | re.DOTALL | re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"{benchmark.preface}\n{text}" if benchmark.preface else text


def shuffled(options: Sequence[str], id: str) -> list[str]:
    """`options` in an order that the id decides, the same in every evaluation."""
    order = list(options)
    random.Random(f"zppo/{id}").shuffle(order)
    return order


def unlabelled(options: Sequence[str]) -> list[str]:
    """Options without the letters they may carry (`A. red`): prompts add their own."""
    found = [_LABELLED.match(option.strip()) for option in options]
    letters = [match[1] if match else "" for match in found]
    if letters != list(ascii_uppercase[: len(options)]):
        return list(options)
    return [match[2].strip() for match in found if match]


def _options(row: Mapping[str, Any], column: Column | None) -> list[str]:
    """The options of a row, in whatever form: a list, a mapping by letter, one text (`A. x;B. y`),
    several columns. Empty where there are none."""
    if column is None:
        return []
    if isinstance(column, list):
        value: Any = [_first(row, name) for name in column]
    else:
        value = _first(row, column)
    if value is None or value == "" or (fields.is_list(value) and not len(value)):
        return []
    name = column if isinstance(column, str) else "+".join(column)
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value) if value[key] not in (None, "")]
    if isinstance(value, str):
        pairs = _ONE_LINE.findall(value)
        if [mark for mark, _ in pairs] != list(ascii_uppercase[: len(pairs)]) or not pairs:
            raise RowProblem(name, "wrong type", f"{value[:40]!r} lists no options A, B, ...")
        return [text for _, text in pairs]
    if not fields.is_list(value):
        raise RowProblem(name, "wrong type", f"expected options, got {type(value).__name__}")
    return unlabelled([_text(option) for option in value])


def _first(row: Mapping[str, Any], column: Column | None) -> Any:
    """The value of the first column of `a|b` that the row has; of several columns, the first."""
    if column is None:
        return None
    name = column if isinstance(column, str) else column[0]
    return next((row[part] for part in name.split("|") if part in row), None)


def _all(row: Mapping[str, Any], column: Column | None) -> list[Any]:
    names = [column] if isinstance(column, str) else column or []
    values = [_first(row, name) for name in names]
    return [v for value in values for v in (value if fields.is_list(value) else [value])]


def _text(value: Any) -> str:
    return fields.scalar_text(value, "") if value is not None else ""


def _place(text: str) -> int:
    return ord(text) - ord("A") if len(text) == 1 and text.isupper() else -1
