"""Rows of .jsonl, .json and .csv files, found again by the byte at which they start."""

from __future__ import annotations

import codecs
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from zppo.config import ColumnsConfig
from zppo.data.raw import RawRow, as_row, require_columns
from zppo.data.skips import RowProblem
from zppo.errors import DataError

_BOM = codecs.BOM_UTF8
_CHUNK = 1 << 16  # bytes of a .json file parsed at a time, grown for rows that are larger
_LINE = 4_096  # bytes of a .jsonl file read at first to find the end of a line
_SPACE = " \t\n\r"


class _File:
    """A text file that must not change between its first reading and the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        self.folder = path.parent
        self._kept: IO[bytes] | None = None
        with self._naming():
            self._state = self._stat(os.stat(path))

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        with self._naming(), self.path.open("rb") as file:
            self._require(os.fstat(file.fileno()))
            yield file

    def lines(self, places: Sequence[int]) -> list[bytes]:
        """The line that starts at each byte. Reads by position: threads do not disturb another."""
        with self._naming():
            self._require(os.stat(self.path))
            if self._kept is None:
                self._kept = self.path.open("rb")
            return [_line_at(self._kept.fileno(), place) for place in places]

    def _require(self, found: os.stat_result) -> None:
        if self._stat(found) != self._state:
            raise DataError(f"`{self.path}` was changed while it was in use; start again.")

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"Cannot read `{self.path}`: {error.strerror}") from None

    @staticmethod
    def _stat(found: os.stat_result) -> tuple[int, int]:
        return found.st_size, found.st_mtime_ns


class JsonLines:
    """One object a line. A line that cannot be read is a problem of that row alone."""

    def __init__(self, path: Path, columns: ColumnsConfig) -> None:
        self._file = _File(path)
        self.where, self.folder = self._file.where, self._file.folder

    def scan(self) -> Iterator[RawRow]:
        with self._file.opened() as lines:
            place = 0
            for number, line in enumerate(lines, start=1):
                if line.removeprefix(_BOM if number == 1 else b"").strip():
                    yield _json_line(number, place, line)
                place += len(line)

    def read(self, places: Sequence[int]) -> list[RawRow]:
        lines = self._file.lines(places)
        return [_json_line(0, place, line) for place, line in zip(places, lines, strict=True)]


def _line_at(file: int, place: int) -> bytes:
    """The line of an open file that starts at a byte."""
    line, size = b"", _LINE
    while b"\n" not in (piece := os.pread(file, size, place + len(line))):
        line += piece
        if len(piece) < size:
            return line
        size *= 4
    return line + piece.partition(b"\n")[0]


def _json_line(number: int, place: int, line: bytes) -> RawRow:
    line = line.removeprefix(_BOM) if place == 0 else line
    try:
        return as_row(number, place, json.loads(line.decode("utf-8")))
    except UnicodeDecodeError as error:
        problem = RowProblem("", "not UTF-8", f"byte {error.start} is not UTF-8")
    except (ValueError, RecursionError) as error:
        problem = RowProblem("", "invalid JSON", f"invalid JSON: {error}")
    return RawRow(number, place, problem=problem)


class JsonList:
    """One list of objects, parsed an object at a time, so that a large file is never held."""

    def __init__(self, path: Path, columns: ColumnsConfig) -> None:
        self._file = _File(path)
        self.where, self.folder = self._file.where, self._file.folder

    def scan(self) -> Iterator[RawRow]:
        with self._file.opened() as file:
            text = _Window(file, 3 if file.read(3) == _BOM else 0)
            self._guard(self._open_list, text)
            number = 0
            while not self._guard(text.skip_to, "]"):
                if number:
                    self._guard(text.expect, ",")
                place = self._guard(text.start)
                number += 1
                yield as_row(number, place, self._guard(text.value))
            if self._guard(text.skip_to_end):
                raise self._invalid("Extra data after the list")

    def read(self, places: Sequence[int]) -> list[RawRow]:
        with self._file.opened() as file:
            return [as_row(0, p, self._guard(_Window(file, p).value)) for p in places]

    def _open_list(self, text: _Window) -> None:
        if not text.skip_to("["):
            found = type(text.value()).__name__
            rest = text.skip_to_end()
            if not rest:
                raise DataError(f"`{self.where}` must hold a list of rows, not a {found}.")
            raise ValueError("Extra data")

    def _guard(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except (ValueError, RecursionError) as error:
            raise self._invalid(str(error)) from None

    def _invalid(self, reason: str) -> DataError:
        return DataError(
            f"`{self.where}` is not valid JSON: {reason}. One row a line goes into a .jsonl file."
        )


class _Window:
    """The part of a UTF-8 file that is being parsed, moving forward."""

    def __init__(self, file: IO[bytes], place: int) -> None:
        self.file = file
        self.place = place  # byte of the file at which `text` starts
        self.next = place  # byte of the file to read on from
        self.text = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.ended = False

    def start(self) -> int:
        """The byte of the next value, white space skipped."""
        self._skip_space()
        return self.place

    def skip_to(self, char: str) -> bool:
        """Whether `char` comes next; then it is passed."""
        self._skip_space()
        if not self.text.startswith(char):
            return False
        self._drop(1)
        return True

    def expect(self, char: str) -> None:
        if not self.skip_to(char):
            raise ValueError(f"expected `{char}` at byte {self.place}")

    def skip_to_end(self) -> bool:
        """Whether anything but white space is left."""
        self._skip_space()
        return bool(self.text)

    def value(self) -> Any:
        """The next value. Raises `ValueError`."""
        self._skip_space()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text)
                # A number that reaches the end of the text may go on in the next piece.
                if end < len(self.text) or self.ended:
                    self._drop(end)
                    return value
            except ValueError:
                if self.ended:
                    raise
            self._more(max(_CHUNK, len(self.text)))

    def _skip_space(self) -> None:
        while True:
            rest = self.text.lstrip(_SPACE)
            self._drop(len(self.text) - len(rest))
            if self.text or self.ended:
                return
            self._more(_CHUNK)

    def _drop(self, count: int) -> None:
        self.place += len(self.text[:count].encode("utf-8"))
        self.text = self.text[count:]

    def _more(self, size: int) -> None:
        self.file.seek(self.next)
        piece = self.file.read(size)
        self.next += len(piece)
        self.ended = len(piece) < size
        self.text += self.decoder.decode(piece, self.ended)


class CsvRows:
    """A table with a header. Empty cells are null; a list column may hold a JSON list, or one
    path."""

    def __init__(self, path: Path, columns: ColumnsConfig) -> None:
        self._file = _File(path)
        self.where, self.folder = self._file.where, self._file.folder
        self._columns = columns
        self._lists = (columns.options, columns.images, columns.videos, columns.messages)
        self._header: list[str] = []

    def scan(self) -> Iterator[RawRow]:
        with self._file.opened() as file, self._naming():
            lines = _Lines(file)
            table = csv.reader(lines, strict=True)
            self._header = next(table, [])
            if self._header:
                require_columns(self._header, self._columns, self.where)
            place, number = lines.place, 0
            for cells in table:
                if cells:  # else a blank line
                    number += 1
                    yield self._row(number, place, cells)
                place = lines.place

    def read(self, places: Sequence[int]) -> list[RawRow]:
        rows: list[RawRow] = []
        with self._file.opened() as file, self._naming():
            for place in places:
                file.seek(place)
                rows.append(self._row(0, place, next(csv.reader(_Lines(file), strict=True))))
        return rows

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"`{self.where}` is not a readable CSV file: {error}.") from None

    def _row(self, number: int, place: int, cells: list[str]) -> RawRow:
        if len(cells) > len(self._header):
            detail = "more cells than the header has columns"
            return RawRow(number, place, problem=RowProblem("", "not a row", detail))
        cells += [""] * (len(self._header) - len(cells))
        values: dict[str, Any] = {
            name: text or None for name, text in zip(self._header, cells, strict=True)
        }
        for name in self._lists:
            text = values.get(name or "")
            if name and text and text.lstrip().startswith("["):
                try:
                    values[name] = json.loads(text)
                except (ValueError, RecursionError) as error:
                    problem = RowProblem(name, "invalid JSON", f"invalid JSON list: {error}")
                    return RawRow(number, place, problem=problem)
        return RawRow(number, place, values=values)


class _Lines:
    """Lines of a file as text, counting the bytes handed out."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.place = file.tell()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            raise StopIteration
        first = self.place == 0
        self.place += len(line)
        return line.removeprefix(_BOM if first else b"").decode("utf-8")
