"""From a raw row to a question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zppo.config import ColumnsConfig, DataConfig
from zppo.data import fields
from zppo.data.chat import read_conversation
from zppo.data.probes import digest
from zppo.data.raw import RawRow, cell
from zppo.data.row_media import MediaReader
from zppo.data.skips import RowProblem
from zppo.types import Media, Question


class QuestionBuilder:
    """Turns raw rows of one source into questions. It keeps nothing of them, so threads may share
    it."""

    def __init__(
        self, config: DataConfig, columns: ColumnsConfig, where: str, folder: Path
    ) -> None:
        """`where` is what messages call the source; relative media paths start at `folder`."""
        self.config, self.columns, self.where = config, columns, where
        self.media = MediaReader(config, folder, columns)

    def checked(self, raw: RawRow) -> Question:
        """The question of a row seen for the first time: its media opened and found sound, its id
        the row's own or else the hash of its content. Raises what `build` raises."""
        question = self.build(raw, "")
        for media in question.media:
            self.media.check(media)
        if question.id:
            return question
        id = content_id(question.text, question.answer, question.options, question.media)
        return replace(question, id=id)

    def build(self, raw: RawRow, id: str) -> Question:
        """The question of a row, its media named but not opened. `id` is for a row that gives
        none.

        Raises `RowProblem` naming the field and the reason, or `DataError` for a bad kind.
        """
        if raw.values is None:
            raise raw.problem or RowProblem("", "not a row")
        row, columns = raw.values, self.columns
        kind = fields.kind(row, columns, raw.number, self.where)
        asked, answered, inline = cell(row, columns.question), cell(row, columns.answer), {}
        column = columns.question
        if columns.messages is not None:
            column = columns.messages
            talk = read_conversation(cell(row, column), column)
            asked, inline = talk.question, talk.media
            answered = talk.answer if answered is None else answered
        text = fields.question_text(asked, column)
        answer, reference = fields.answer_and_reference(
            answered, row, columns, self.config.max_answer_chars
        )
        options = fields.options(row, columns)
        source = fields.optional_text(row, columns.source) or ""
        given = fields.optional_text(row, columns.id)
        media = self.media.named(row, inline)
        text = fields.without_placeholders(text, media, column)
        return Question(
            id=given or id,
            text=text,
            answer=answer,
            kind=kind,
            options=options,
            media=media,
            reference=reference,
            source=source,
        )

    def gives_id(self, raw: RawRow) -> bool:
        """Whether the row names its question."""
        return bool(raw.values and fields.optional_text(raw.values, self.columns.id))


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
