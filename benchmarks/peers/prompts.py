"""Prompts of a given length: word problems until the length is reached, or the lab's puzzles."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plan import Case, PromptRow
from transformers import AutoTokenizer

from zppo.algorithm.prompts import Templates
from zppo.lab import puzzles
from zppo.types import Question

NAMES = ("Ada", "Boris", "Chen", "Dalia", "Emil", "Farida", "Goran", "Hana")
THINGS = ("apples", "stamps", "marbles", "tickets", "books", "shells", "coins", "pencils")
STORIES = (
    "{a} has {x} {thing} and gives {y} of them to {b}. How many {thing} does {a} keep?",
    "A box holds {x} {thing}. {a} buys {y} boxes and {b} buys one more. How many {thing} is that?",
    "{a} collects {x} {thing} on Monday and twice as many on Tuesday; {b} takes {y}. What is left?",
    "{x} {thing} cost {y} cents each. {a} and {b} share the price. How much does each of them pay?",
)


def stories(seed: int) -> Iterator[str]:
    """Endless word problems, no two series alike."""
    rng = random.Random(seed)
    while True:
        a, b = rng.sample(NAMES, 2)
        x, y = rng.randrange(12, 999), rng.randrange(2, 12)
        yield rng.choice(STORIES).format(a=a, b=b, x=x, y=y, thing=rng.choice(THINGS))


def questions_of(path: Path) -> Iterator[str]:
    """The questions of a .jsonl file with a `question` in every row, again and again."""
    texts = [json.loads(line)["question"] for line in path.read_text().splitlines() if line]
    if not texts:
        raise SystemExit(f"{path} has no rows.")
    while True:
        yield from texts


def of_length(
    texts: Iterator[str], tokens: int, tokenizer: Any, templates: Templates
) -> tuple[PromptRow, int]:
    """A prompt of `tokens` tokens, chat template included, and its true length: texts one after
    another, the first ones cut at a word's boundary, so that the last question is whole."""

    def row(words: list[str]) -> PromptRow:
        question = " ".join(words)
        return PromptRow(question, templates.plain(Question("q", question, "")))

    def length(words: list[str]) -> int:
        message = [{"role": "user", "content": row(words).turn}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    words: list[str] = []
    while length(words) < tokens:
        words = [*next(texts).split(), *words]
    drop = smallest(lambda n: length(words[n:]) <= tokens, len(words))
    return row(words[drop:]), length(words[drop:])


def smallest(holds: Callable[[int], bool], limit: int) -> int:
    """The smallest number up to `limit` for which `holds`; it holds for all above that one."""
    low, high = 0, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def text_prompts(
    number: int, tokens: int, tokenizer: Any, seed: int, rows: Path | None = None
) -> tuple[list[PromptRow], int]:
    """`number` prompts of at most `tokens` tokens (a few less where a word is longer), and the
    length of the longest."""
    texts = questions_of(rows) if rows else stories(seed)
    templates = Templates.default()
    made = [of_length(texts, tokens, tokenizer, templates) for _ in range(number)]
    return [row for row, _ in made], max(length for _, length in made)


def lab_prompts(number: int, folder: Path) -> list[PromptRow]:
    """Image puzzles of the lab's training split, their pictures written to `folder`."""
    templates = Templates.default()
    chosen = [q for q in puzzles.questions("train") if q.media][:number]
    made: list[PromptRow] = []
    for index, question in enumerate(chosen):
        picture = folder / f"{index}.png"
        data = question.media[0].parts[0]
        assert isinstance(data, bytes)
        picture.write_bytes(data)
        made.append(PromptRow(question.text, templates.plain(question), str(picture)))
    return made


def prompts_of(
    case: Case, model: Path, folder: Path, rows: Path | None
) -> tuple[list[PromptRow], int]:
    """The prompts of a case, and the length of the longest; pictures are written to `folder`."""
    if case.prompt_tokens:
        tokenizer = AutoTokenizer.from_pretrained(model)
        return text_prompts(case.prompts, case.prompt_tokens, tokenizer, 0, rows)
    return lab_prompts(case.prompts, folder), 64
