"""The preflight: everything that could stop a run, tried before it costs anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.errors import DataError, ModelError, RunError, ZppoError
from zppo.rewards import grade
from zppo.runs import check_verl
from zppo.runs.build import (
    DataParts,
    build_data,
    build_student,
    build_teacher,
    check_distillation,
    check_judge,
    check_media,
    check_teacher,
    spread,
    within_length,
)
from zppo.runs.memory import (
    GIB,
    MemoryEstimate,
    available_memory,
    estimate_memory,
    readable,
    shortage,
)
from zppo.runs.trackers import require_packages
from zppo.student.base import Student
from zppo.teacher.base import Teacher
from zppo.types import GroupKind, Prompt, Question

#: Questions looked at in detail; encoding the images of a large corpus would take minutes.
_SAMPLE = 200

_TO_TEACHER = "to the teacher:"

#: Name, the checks it builds on, and what it does.
_Check = tuple[str, set[str], Callable[[], str]]


def check(config: Config, console: Console | None = None) -> int:
    """Try everything `zppo train` would need, print what was found, return the failed checks."""
    return _Preflight(config, console or Console(highlight=False, emoji=False)).run()


class _Preflight:
    """Checks in order of cost. One that needs what another failed to build is skipped."""

    def __init__(self, config: Config, console: Console) -> None:
        self.config, self.console = config, console
        self.templates: Templates
        self.data: DataParts
        self.student: Student
        self.teacher: Teacher | None = None

    def run(self) -> int:
        checks: list[_Check] = [
            ("templates", set(), self._templates),
            ("run directory", set(), self._directory),
            ("trackers", set(), self._trackers),
            ("data", set(), self._data),
            *self._engine(),
            ("teacher", {"data"}, self._teacher),
            ("answers", {"data"}, self._answers),
            ("prompt length", {"templates", "data", "student"}, self._lengths),
        ]
        if METHODS[self.config.method].distill:
            checks.append(("tokenizer", {"data", "student", "teacher"}, self._tokenizer))
        failed: set[str] = set()
        skipped: set[str] = set()
        for name, needs, function in checks:
            if missing := needs & (failed | skipped):
                skipped.add(name)
                self._say("yellow", "skip", name, f"needs: {', '.join(sorted(missing))}")
                continue
            try:
                self._say("green", "ok", name, function())
            except ZppoError as error:
                failed.add(name)
                self._say("red", "FAIL", name, str(error))
        if not {"templates", "data", "student"} & (failed | skipped):
            self._show_prompts()
        self._sum_up(failed)
        return len(failed)

    def _engine(self) -> list[_Check]:
        if self.config.student.engine == "local":
            return [("memory", set(), self._memory), ("student", {"memory"}, self._student)]
        return [
            ("packages", set(), lambda: check_verl.packages(self.config)),
            ("cluster", set(), self._cluster),
            ("student", {"data"}, self._read_only_student),
            ("memory", {"student"}, self._memory_by_rank),
        ]

    def _say(self, colour: str, mark: str, name: str, detail: str) -> None:
        head = f"[{colour}]{mark:>4}[/{colour}]  [bold]{name}[/bold]  "
        self.console.print(head + escape(detail), soft_wrap=True)

    def _sum_up(self, failed: set[str]) -> None:
        if failed:
            self.console.print(f"[red]{len(failed)} failed[/red]: {', '.join(sorted(failed))}")
        else:
            self.console.print("[green]Ready to train.[/green]")

    # --- checks: a line about what was found, or a ZppoError --------------------------------------

    def _templates(self) -> str:
        self.templates = Templates.load(self.config.algorithm.templates)
        return self.config.algorithm.templates or "ours"

    def _directory(self) -> str:
        root = Path(self.config.run.dir or "runs")
        if self.config.run.dir and root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise RunError(f"`{root}` is not a new or empty folder; set run.dir=FOLDER.")
        there = next(p for p in (root, *root.absolute().parents) if p.is_dir())
        if not os.access(there, os.W_OK):
            raise RunError(f"No permission to write into `{there}`; set run.dir=FOLDER.")
        free = shutil.disk_usage(there).free
        estimate = estimate_memory(self.config)
        if estimate is None:
            return f"`{root}`, {readable(free)} free on the disk"
        # The best checkpoint and the one being written come on top of those that are kept.
        needed = _checkpoint_bytes(estimate) * (self.config.run.keep_checkpoints + 2)
        if needed > free:
            raise RunError(
                f"Checkpoints will take about {readable(needed)} in `{there}`, which has "
                f"{readable(free)} free. Lower run.keep_checkpoints or set run.dir=FOLDER."
            )
        return f"`{root}`, checkpoints take about {readable(needed)} of {readable(free)}"

    def _trackers(self) -> str:
        return ", ".join(require_packages(self.config)) or "none"

    def _data(self) -> str:
        self.data = build_data(self.config)
        lines = [f"{len(self.data.train)} to train on, {len(self.data.validation)} to evaluate on"]
        return "\n      ".join([*lines, *self.data.notes()])

    def _memory(self) -> str:
        estimate = estimate_memory(self.config)
        available = available_memory(self.config.student.device)
        if estimate is None or available is None:
            return "not known before the model is there"
        if estimate.certain > available:
            raise ModelError(shortage(estimate.certain, available, self.config))
        verdict = f"about {estimate}; {readable(available)} free"
        if estimate.total > available:
            verdict += ". Tight: lower student.micro_batch_tokens or turn on "
            verdict += "student.gradient_checkpointing"
        return verdict

    def _student(self) -> str:
        self.student = build_student(self.config)
        return f"`{self.config.student.model}`, context of {self.student.context_limit} tokens"

    def _cluster(self) -> str:
        return check_verl.placement(self.config, check_verl.find_nodes(self.config))

    def _read_only_student(self) -> str:
        """Enough of the student to measure prompts: no worker starts for a check."""
        self.student = check_verl.read_only_student(self.config)
        check_verl.require_sendable(self.student, spread(self.data.train, _SAMPLE))
        return check_verl.sequence_room(self.config, self.student.context_limit)

    def _memory_by_rank(self) -> str:
        size = check_verl.checkpoint_size(self.config)
        if size is None:
            return "not known before the model is there"
        need = check_verl.memory_by_rank(self.config, *size)
        gpu = check_verl.this_machine().gpu_memory
        return check_verl.memory(self.config, need, self.student.context_limit, gpu)

    def _teacher(self) -> str:
        if self.config.teacher is None:
            return "none"
        check_teacher(self.config, self.data.train)
        self.teacher = build_teacher(self.config)
        check_media(self.config, self.teacher, self.data.train)
        return self.config.teacher.kind

    def _tokenizer(self) -> str:
        check_distillation(self.config, self.student, self.teacher, self.data.train)
        return "student and teacher share one, as distillation needs"

    def _answers(self) -> str:
        """Would a response that states the gold answer be rewarded?"""
        check_judge(self.config, self.data.train, self.data.validation)
        sample = [q for q in spread(self.data.train, _SAMPLE) if q.kind == "short"]
        lost = [q for q in sample if not _rewarded(q)]
        if len(lost) * 2 > len(sample):
            raise DataError(
                f"The grader cannot match most gold answers, for instance {lost[0].answer!r} "
                f"(question `{lost[0].id}`); is data.columns.answer right?"
            )
        return f"{len(sample) - len(lost)} of {len(sample)} gold answers are rewarded when boxed"

    def _lengths(self) -> str:
        sample = DataParts(spread(self.data.train, _SAMPLE), [])
        kept = within_length(sample, self.student, self.templates, self.config)
        lengths = [self._tokens(GroupKind.PLAIN, q, self.templates.plain(q)) for q in kept.train]
        return (
            f"{len(kept.train)} of {len(sample.train)} sampled prompts are within the limit; "
            f"{min(lengths)} to {max(lengths)} tokens, median {median(lengths):.0f}"
        )

    # --- one prompt of each kind ------------------------------------------------------------------

    def _show_prompts(self) -> None:
        question = self.data.train[0]
        for kind, text in _prompts(question, self.config, self.templates):
            # Text tasks of the teacher go without the question's media.
            asked = replace(question, media=()) if kind.startswith(_TO_TEACHER) else question
            tokens = self._tokens(GroupKind.PLAIN, asked, text)
            media = f", {len(asked.media)} media" if asked.media else ""
            title = f"{kind}, question {escape(question.id)}: {tokens} tokens{media}"
            self.console.print(Panel(Text(text), title=title, title_align="left"))

    def _tokens(self, kind: GroupKind, question: Question, text: str) -> int:
        return self.student.prompt_tokens(Prompt(question, kind, text))


def _prompts(question: Question, config: Config, templates: Templates) -> Iterator[tuple[str, str]]:
    """(kind, text) of every prompt the method sends, with stand-ins for what models write."""
    method = METHODS[config.method]
    right = f"(a correct response) \\boxed{{{question.answer}}}"
    wrong = "(a wrong response of the student) \\boxed{?}"
    yield "plain", templates.plain(question)
    if method.bcq:
        yield "BCQ", templates.bcq(question, [wrong, right])
    if method.ncq:
        yield "NCQ", templates.ncq(question, ["?"], [wrong])
    if method.hint:
        yield "hint", templates.hint(question, "(a hint of the teacher)")
        yield f"{_TO_TEACHER} write a hint", templates.write_hint(question, right)
    if (method.bcq or method.ncq) and config.algorithm.compress == "teacher":
        yield f"{_TO_TEACHER} compress", templates.compress(question, right)


def _rewarded(question: Question) -> bool:
    response = f"\\boxed{{{question.answer}}}"
    return grade(response, question.answer, question.kind, question.options).correct


def _checkpoint_bytes(estimate: MemoryEstimate) -> int:
    """Weights, masters and moments; gradients are not saved."""
    return max(estimate.weights + estimate.training * 2 // 3, GIB // 1024)
