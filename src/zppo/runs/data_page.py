"""A page of questions as the student will see them: pictures, prompt, gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zppo.algorithm.prompts import Templates
from zppo.data.survey import answer_kind
from zppo.errors import DataError, ModelError
from zppo.report.page import page, text
from zppo.report.thumbnails import picture_tags
from zppo.runs.files import write_atomic
from zppo.student.base import Student
from zppo.types import GroupKind, Prompt, Question


def write_page(
    path: Path,
    name: str,
    questions: Sequence[Question],
    student: Student | None,
    templates: Templates,
) -> None:
    """Write the page. With a `student` each prompt stands as its chat template makes it, with its
    length; without one, as the user turn. Raises `RunError` when it cannot be written."""
    articles = "".join(_article(question, student, templates) for question in questions)
    how = "as the student reads them" if student else "as the user turn (without chat template)"
    body = (
        f"<header class=top><h1>{text(name)}</h1>"
        "<button id=theme type=button>Dark</button></header>"
        f"<main><p class=soft>{len(questions)} random questions; prompts {how}.</p>"
        f"{articles}</main>"
    )
    write_atomic(path, page(name, body, ("page.css", "show.css"), ("theme.js",)).encode("utf-8"))


def _article(question: Question, student: Student | None, templates: Templates) -> str:
    shown, tokens = _prompt(question, student, templates)
    pictures = "".join(
        f"<figure class=media>{''.join(tags)}<figcaption class=soft>{text(words)}</figcaption>"
        "</figure>"
        for tags, words in map(picture_tags, question.media)
    )
    length = f"<span class=tag>{tokens} tokens</span>" if tokens is not None else ""
    return (
        f"<article class=card><h2><bdi>{text(question.id)}</bdi> "
        f"<span class=soft><bdi>{text(question.source)}</bdi></span>{length}</h2>"
        f"<p>gold: <b><bdi>{text(question.answer)}</bdi></b> "
        f"<span class=soft>{text(answer_kind(question))}</span></p>"
        f"{pictures}<pre>{text(shown)}</pre></article>"
    )


def _prompt(
    question: Question, student: Student | None, templates: Templates
) -> tuple[str, int | None]:
    prompt = Prompt(question, GroupKind.PLAIN, templates.plain(question))
    if student is None:
        return prompt.text, None
    try:
        return student.rendered(prompt), student.prompt_tokens(prompt)
    except (DataError, ModelError) as error:
        return f"no prompt can be made: {error}", None
