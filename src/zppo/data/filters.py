"""The length filter of method section 8: prompt, visual tokens and closer within the limit.

It needs the student's tokenizer, so it runs once the student is there; the counting is injected.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from zppo.data.questions import select
from zppo.data.skips import Skip, SkipLog, SkipReport
from zppo.errors import DataError
from zppo.types import Question


def filter_by_length(
    questions: Sequence[Question], length: Callable[[Question], int], limit: int
) -> tuple[Sequence[Question], SkipReport]:
    """Questions whose prompt has at most `limit` tokens, in order, and the ones left out.

    `length` counts the tokens of the full plain prompt, visual tokens and closer included. A
    question for which it raises `DataError` (an image of an extreme shape, a placeholder token in
    its text) is left out with that reason.
    """
    kept = array("q")
    log = SkipLog()
    for position, question in enumerate(questions):
        try:
            tokens = length(question)
        except DataError as error:
            log.add(Skip(position + 1, "question", "no prompt can be made", str(error)))
            continue
        if tokens <= limit:
            kept.append(position)
            continue
        detail = f"{question.id}: {tokens} tokens, data.max_prompt_tokens is {limit}"
        log.add(Skip(position + 1, "question", "prompt too long", detail))
    return select(questions, kept), log.report(len(questions))
