"""The length filter of method section 8: prompt, visual tokens and closer within the limit.

It needs the student's tokenizer, so it runs once the student is there; the counting is injected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zppo.data.skips import Skip, SkipLog, SkipReport
from zppo.types import Question


def filter_by_length(
    questions: Sequence[Question], length: Callable[[Question], int], limit: int
) -> tuple[list[Question], SkipReport]:
    """Questions whose prompt has at most `limit` tokens, in order, and the ones left out.

    `length` counts the tokens of the full plain prompt, visual tokens and closer included.
    Errors of `length` (such as `DataError` for a damaged image) are passed on.
    """
    kept: list[Question] = []
    log = SkipLog()
    for number, question in enumerate(questions, start=1):
        tokens = length(question)
        if tokens <= limit:
            kept.append(question)
            continue
        detail = f"{question.id}: {tokens} tokens, data.max_prompt_tokens is {limit}"
        log.add(Skip(number, "question", "prompt too long", detail))
    return kept, log.report(len(questions))
