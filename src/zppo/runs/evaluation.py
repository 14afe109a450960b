"""Accuracy by family, before, during and after training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zppo.algorithm.step import StepParts, sample_and_grade
from zppo.config import Config, load_config
from zppo.data import readable
from zppo.errors import DataError
from zppo.rewards.grader import close_grader, drain_metrics
from zppo.runs.build import RunParts, build_evaluation, family
from zppo.runs.checkpoint import find_checkpoint
from zppo.runs.directory import CONFIG, RunDirectory, step_of
from zppo.runs.files import write_gzip
from zppo.runs.loop import blocking
from zppo.runs.records import group_lines
from zppo.types import Group, GroupKind, Prompt, Question

#: Stream of randomness of evaluations, beside those of a training step. The step is left out of
#: the seed: before and after are sampled with the same luck.
_EVALUATION = 1_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean reward by family of question, `all` over all of them.

    `unfinished` is the share of responses that the token limit cut. `grading` holds what the judge
    was asked, empty without one. `unreadable` holds the questions whose images or videos could not
    be read, with the reason; they are not counted.
    """

    step: int
    accuracy: dict[str, float]
    questions: dict[str, int]
    unfinished: float
    grading: dict[str, float] = field(default_factory=dict[str, float])
    unreadable: dict[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        found = {
            "accuracy": self.accuracy,
            "questions": self.questions,
            "unfinished": self.unfinished,
        }
        found |= {"grading": self.grading} if self.grading else {}
        return found | ({"unreadable": self.unreadable} if self.unreadable else {})


async def evaluate_questions(
    step: int,
    questions: Sequence[Question],
    parts: StepParts,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Evaluation, list[Group]]:
    """Sample and grade every question with the settings of `config.evaluation`. Raises `DataError`
    when the images of none can be read."""
    settings = parts.config.evaluation
    questions, left = readable(questions, parts.config.data)
    if left and not questions:
        raise DataError(f"No question can be read: `{left[0].id}`: {left[0].reason}")
    prompts = [Prompt(q, GroupKind.PLAIN, parts.templates.plain(q)) for q in questions]
    progress(0, len(prompts))
    groups = await sample_and_grade(
        prompts,
        settings.samples,
        (parts.config.seed, _EVALUATION),
        parts,
        progress,
        settings,
    )
    unreadable = {question.id: question.reason for question in left}
    found = replace(
        summarize(step, groups), grading=drain_metrics(parts.grader), unreadable=unreadable
    )
    return found, groups


async def evaluate_benchmarks(
    step: int,
    parts: StepParts,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Scores of `evaluation.benchmarks`, as `benchmark/NAME`, by the path of `zppo eval` into
    `folder`. Raises a `ZppoError` where data or a needed judge is missing."""
    names = parts.config.evaluation.benchmarks
    if not names:
        return {}
    from zppo.runs.benchmarks import measure  # the seam between two kinds of evaluation

    entries = await measure(parts.student, parts.config, folder, step, progress)
    return {f"benchmark/{key}": e["score"] for key, e in entries.items() if e["score"] is not None}


def summarize(step: int, groups: Sequence[Group]) -> Evaluation:
    """The table of an evaluation."""
    by_family: dict[str, list[Group]] = {"all": list(groups)}
    for group in groups:
        by_family.setdefault(family(group.question), []).append(group)
    finished = [r.response.finished for g in groups for r in g.rollouts]
    return Evaluation(
        step,
        {name: sum(g.accuracy for g in some) / len(some) for name, some in by_family.items()},
        {name: len(some) for name, some in by_family.items()},
        1.0 - sum(finished) / len(finished),
    )


def question_accuracies(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """One row a question: what a paired comparison of two runs needs."""
    for group in groups:
        yield {
            "question": group.question.id,
            "family": family(group.question),
            "source": group.question.source,
            "accuracy": group.accuracy,
        }


def evaluate(
    target: Config | str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str = "latest",
    output: str | Path | None = None,
    build: Callable[[Config], RunParts] = build_evaluation,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate a run's checkpoint, or the student that a config names as it is.

    `target` is a run directory, a `Config`, a YAML file or a recipe. `checkpoint` picks one of a
    run: `latest`, `best`, `start` (the untrained student) or a step number. `output` takes every
    response, as .jsonl.gz. Raises a `ZppoError`.
    """
    run = None
    if isinstance(target, Config):
        config = target
    elif (Path(target) / CONFIG).is_file():
        run = RunDirectory.open(target)
        config = run.config(overrides)
    else:
        config = load_config(target, overrides)
    path = None
    if run is not None and checkpoint != "start":
        path = find_checkpoint(run, checkpoint)
    parts = build(config)
    if path is not None:
        parts.step.student.load(path, optimizer=False)
    step = 0 if path is None else step_of(path)

    async def sample() -> tuple[Evaluation, list[Group]]:
        try:
            return await evaluate_questions(step, parts.data.validation, parts.step, progress)
        finally:
            await close_grader(parts.step.grader)

    result, groups = blocking(sample())
    if output is not None:
        media = RunDirectory(Path(output).parent).media
        write_gzip(Path(output), group_lines(groups, media))
    return result
