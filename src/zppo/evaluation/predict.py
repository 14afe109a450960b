"""The first half of an evaluation: every response, written down before anyone scores it.

A line of `predictions.jsonl` is one response, or the reason why there is none. What has a response
is never asked again; what has none is asked again when the evaluation goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from zppo.algorithm.prompts import Templates
from zppo.errors import RunError
from zppo.evaluation.benchmark import Item
from zppo.evaluation.files import append_lines, read_lines
from zppo.evaluation.models import Answer, Ask, Model

#: (id, sample) of a response.
Key = tuple[str, int]
Progress = Callable[[int, int], None]


def prompts(items: Sequence[Item], templates: Templates) -> dict[str, str]:
    """The user turn of every item: question, options, and the closer of training."""
    return {item.id: templates.plain(item.question) for item in items}


async def predict(
    model: Model,
    items: Sequence[Item],
    texts: Mapping[str, str],
    samples: int,
    file: Path,
    seed: Sequence[int],
    progress: Progress = lambda done, total: None,
) -> None:
    """Ask `model` for `samples` responses to every item that has fewer in `file`.

    Raises `RunError` when `file` holds responses to other prompts.
    """
    found = read_predictions(file, items, texts)
    asks: list[Ask] = []
    for item in items:
        missing = tuple(k for k in range(samples) if not _answered(found.get((item.id, k))))
        asks.append(Ask(item, texts[item.id], samples, missing))
    total = len(items) * samples
    done = total - sum(len(ask.missing) for ask in asks)
    progress(done, total)
    if done == total:
        return
    answers: AsyncIterator[list[Answer]] = model.answer(asks, seed)
    async for piece in answers:
        append_lines(file, [_line(answer, texts) for answer in piece])
        done += len(piece)
        progress(done, total)


def read_predictions(
    file: Path, items: Sequence[Item], texts: Mapping[str, str]
) -> dict[Key, Answer]:
    """The last line of every response to `items`. Lines of other questions, left by an evaluation
    of more of them, are passed over.

    Raises `RunError` when a response was given to another prompt than `texts` holds.
    """
    known = {item.id for item in items}
    found: dict[Key, Answer] = {}
    for line in read_lines(file):
        try:
            line = dict(line)
            digest = line.pop("prompt")
            answer = Answer(**line)
        except (TypeError, KeyError) as error:
            raise RunError(f"`{file}` holds a line that is no prediction: {error}") from None
        if answer.id not in known:
            continue
        if digest != prompt_digest(texts[answer.id]):
            raise RunError(
                f"`{file}`: the response to `{answer.id}` was given to another prompt; data, "
                "templates or benchmark have changed. Evaluate into another folder (--output)."
            )
        key = (answer.id, answer.sample)
        if not _answered(found.get(key)):
            found[key] = answer
    return found


def prompt_digest(text: str) -> str:
    """A short hash of a prompt."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def _answered(answer: Answer | None) -> bool:
    return answer is not None and not answer.error


def _line(answer: Answer, texts: Mapping[str, str]) -> dict[str, object]:
    return {**asdict(answer), "prompt": prompt_digest(texts[answer.id])}
