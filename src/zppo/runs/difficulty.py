"""`zppo data difficulty`: the student's own accuracy on each question of a data set.

The paper drops rows that a 4B model solves more often than not. This measures the student that is
to be trained instead; `data.difficulty` and `data.max_accuracy` then filter by it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from zppo.algorithm.step import StepParts, sample_and_grade
from zppo.config import Config
from zppo.data import load_questions, readable, select
from zppo.data.difficulty import append_accuracies, read_accuracies
from zppo.errors import DataError
from zppo.rewards.grader import close_grader
from zppo.runs.build import DataParts, build_measurement, within_length
from zppo.runs.loop import blocking
from zppo.types import GroupKind, Prompt, Question

_SEED = 1_001  # the stream of randomness, beside that of evaluations
_BATCH = 64  # questions sampled between two writes


def measure_difficulty(
    spec: str, output: Path, config: Config, console: Console | None = None
) -> None:
    """Sample `algorithm.group_size` responses to every question of `spec` and write the share that
    is right to `output`, a line a question. Questions that are in it already are not asked again.

    Sampling is that of training (`rollout`). Raises a `ZppoError`.
    """
    console = console or Console(highlight=False, emoji=False)
    found = load_questions(spec, config.data)
    console.print(escape(f"{spec}: {found.report.summary()}"), soft_wrap=True)
    known = read_accuracies(output, _identity(config)) if output.exists() else {}
    parts = build_measurement(config, found.questions)
    data = within_length(DataParts(found.questions, []), parts.student, parts.templates, config)
    for note in data.notes():
        console.print(escape(note), soft_wrap=True)
    left = [i for i, question in enumerate(data.train) if question.id not in known]
    if known:
        console.print(f"{len(known)} questions are measured already, {len(left)} are left.")
    blocking(_measure(select(data.train, left), output, parts, console))
    _sum_up(read_accuracies(output, _identity(config)), console)


async def _measure(
    questions: Sequence[Question], output: Path, parts: StepParts, console: Console
) -> None:
    config = parts.config
    size = config.algorithm.group_size
    try:
        for start in range(0, len(questions), _BATCH):
            some = [questions[i] for i in range(start, min(start + _BATCH, len(questions)))]
            kept, bad = readable(some, config.data)
            for question in bad:
                console.print(escape(f"left out: {question.id}: {question.reason}"))
            prompts = [Prompt(q, GroupKind.PLAIN, parts.templates.plain(q)) for q in kept]
            # A batch goes by its first question: a resumed run draws what this one would have.
            first = zlib.crc32(some[0].id.encode("utf-8"))
            groups = await sample_and_grade(prompts, size, (config.seed, _SEED, first), parts)
            rows = [{"id": g.question.id, "accuracy": g.accuracy, "samples": size} for g in groups]
            append_accuracies(output, _identity(config), rows)
            console.print(f"{start + len(some)}/{len(questions)}", end="\r")
    finally:
        await close_grader(parts.grader)


def _identity(config: Config) -> dict[str, Any]:
    """What the accuracies are of; others do not go into the same file."""
    tree = config.model_dump(mode="json")
    return {
        "student": tree["student"]["model"],
        "seed": tree["seed"],
        "group_size": tree["algorithm"]["group_size"],
        "rollout": tree["rollout"],
    }


def _sum_up(accuracies: dict[str, float], console: Console) -> None:
    if not accuracies:
        raise DataError("No question could be measured.")
    values = accuracies.values()
    none = sum(v == 0 for v in values) / len(values)
    all_ = sum(v == 1 for v in values) / len(values)
    hard = sum(v < 0.5 for v in values) / len(values)
    console.print(
        f"{len(values)} questions: mean accuracy {sum(values) / len(values):.3f}; "
        f"{none:.0%} never right, {hard:.0%} below one half, {all_:.0%} always right."
    )
