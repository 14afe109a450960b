"""A training run from its config to its last line: build, evaluate, step, record, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np

from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.gate import NcqGate
from zppo.algorithm.step import StepParts, training_step
from zppo.config import Config
from zppo.data import Left, StepLoader
from zppo.errors import ConfigError, DataError, RunError, TeacherError
from zppo.rewards.grader import Remembers, close_grader
from zppo.runs.build import RunParts, build_run
from zppo.runs.checkpoint import (
    check_resumable,
    latest,
    load_checkpoint,
    questions_hash,
    rotate,
    save_checkpoint,
    sweep,
)
from zppo.runs.data_rows import keep_rows, rows_of_run
from zppo.runs.directory import RunDirectory, step_name, step_of
from zppo.runs.evaluation import (
    evaluate,
    evaluate_benchmarks,
    evaluate_questions,
    question_accuracies,
)
from zppo.runs.failure import (
    UpdateWatch,
    failed_update,
    unanswered,
    unread_update,
    without_teacher,
)
from zppo.runs.loop import blocking
from zppo.runs.progress import Display
from zppo.runs.result import RunResult
from zppo.runs.signals import StopRequest
from zppo.runs.trackers import Trackers, require_packages
from zppo.student.base import Student, close_student, engine_config
from zppo.teacher.base import close_teacher
from zppo.types import Question, StepResult

__all__ = ["RunResult", "evaluate", "resume", "train"]

Build = Callable[[Config], RunParts]

#: Settings that a resumed run cannot change and still be the same run.
_FIXED = (
    "method",
    "seed",
    "student.model",
    "student.engine",
    "student.lora",
    "data.",
    "algorithm.templates",
    "rewards.mode",
    "run.dir",
    "run.prompts_per_step",
)


def train(config: Config, *, build: Build = build_run, quiet: bool = False) -> RunResult:
    """Start a run and train to its end.

    `build` turns the config into the objects a run works with; give another one for a student,
    teacher or grader of your own. Raises a `ZppoError`: for a config that cannot be run, before
    anything is left on disk; later on, the run can be resumed.
    """
    require_packages(config)
    run = RunDirectory.create(config)
    try:
        parts = build(config)
        run.write_templates(parts.step.templates.sources)
    except BaseException:
        run.discard_if_unused()
        raise
    try:
        session = _Session(run, config, parts, start=0, quiet=quiet)
        keep_rows(run, parts.data.train, session.data_hash)
        return session.run_to_end()
    finally:
        run.unlock()


def resume(
    run_dir: str | Path,
    overrides: Sequence[str] = (),
    *,
    build: Build = build_run,
    quiet: bool = False,
) -> RunResult:
    """Go on with a run from its last checkpoint, to the metrics it would have had uninterrupted.

    `overrides` may change what leaves it the same run, such as `run.steps=400` or the learning
    rate. A finished run is not touched. Raises a `ZppoError`.
    """
    run = RunDirectory.open(run_dir)
    _refuse_fixed(overrides)
    config = run.config(overrides)
    require_packages(config)
    run.lock()
    try:
        sweep(run)
        checkpoint = latest(run)
        # The words of the run's own templates, whatever has become of the folder they came from.
        own = {"templates": str(run.templates)} if run.templates.is_dir() else {}
        algorithm = config.algorithm.model_copy(update=own)
        parts = build(config.model_copy(update={"algorithm": algorithm}))
        train = rows_of_run(run, parts.data.train, config.data)
        parts = replace(parts, data=replace(parts.data, train=train))
        session = _Session(run, config, parts, step_of(checkpoint) if checkpoint else 0, quiet)
        if checkpoint is not None:
            session.restore(checkpoint)
        run.write_config(config)
        run.truncate_after(session.start)
        return session.run_to_end()
    finally:
        run.unlock()


class _Session:
    """One process's share of a run: from step `start` until the end or a stop."""

    def __init__(
        self, run: RunDirectory, config: Config, parts: RunParts, start: int, quiet: bool
    ) -> None:
        self.run, self.config, self.start = run, config, start
        if (engine := engine_config(parts.step.student)) is not None:
            run.write_engine_config(engine)
        self.data = parts.data
        self.watch = UpdateWatch(parts.step.student)
        self.parts: StepParts = replace(parts.step, student=cast(Student, self.watch))
        self.buffer = PromptReplayBuffer(
            config.algorithm.buffer_capacity, config.algorithm.hard_threshold
        )
        self.gate = NcqGate(config.algorithm.ncq_gate)
        self.data_hash = questions_hash(parts.data.train)
        self.display = Display(config.run.steps, quiet=quiet)
        self.stop = StopRequest(self._on_stop)

    def restore(self, checkpoint: Path) -> None:
        """Become the session that wrote `checkpoint`."""
        for warning in check_resumable(checkpoint, self.config, self.data_hash):
            self.display.warn(warning)
        load_checkpoint(checkpoint, self.run, self.parts.student, self.buffer, self.gate)
        self.display.note(f"Going on after step {self.start}.")

    def run_to_end(self) -> RunResult:
        """Train, show, sum up."""
        began = time.perf_counter()
        complete = False
        trackers = Trackers(self.config, self.run, self.start, self.display.warn)
        try:
            with self.stop, self.display:
                self._greet()
                complete = blocking(self._run(trackers))
        except KeyboardInterrupt:
            pass  # between two records; what is on disk is whole
        finally:
            trackers.close(complete=complete)
            close_student(self.parts.student)
        result = self._result(time.perf_counter() - began, complete)
        self.display.result(result)
        return result

    async def _run(self, trackers: Trackers) -> bool:
        """`_steps`, and the connections of teacher and judge closed within the loop that opened
        them."""
        try:
            return await self._steps(trackers)
        finally:
            await close_teacher(self.parts.teacher)
            await close_grader(self.parts.grader)

    async def _steps(self, trackers: Trackers) -> bool:
        """Whether the last step was reached."""
        if isinstance(self.parts.grader, Remembers):
            self.parts.grader.recall(self.run.verdicts())
        size = self.config.run.prompts_per_step
        with StepLoader(self.data.train, self.config.seed, size, self.config.data) as loader:
            return await self._train(loader, trackers)

    async def _train(self, loader: StepLoader, trackers: Trackers) -> bool:
        await self._evaluate_if_due(self.start, trackers)
        for step in range(self.start + 1, self.config.run.steps + 1):
            self.display.begin(step)
            result, metrics = await self._step(step, loader)
            if self.config.run.save_rollouts:
                self.run.write_rollouts(result)
            self._keep_verdicts(step)
            self.run.append_metrics(step, metrics)
            trackers.log(step, metrics)
            self.display.step(step, metrics)
            self._warn_if_trivial(result)
            if missing := unanswered(result):
                self.display.warn(missing)
            self._save_if_due(step)
            if self.stop.requested:
                return False
            await self._evaluate_if_due(step, trackers)
            rotate(self.run, self.config.run.keep_checkpoints)
        return True

    async def _step(self, step: int, loader: StepLoader) -> tuple[StepResult, dict[str, object]]:
        began = time.perf_counter()
        while (taken := await self._attempt(step, loader)) is None:
            pass
        result, left = taken
        seconds = time.perf_counter() - began
        speed = result.metrics.get("tokens/sampled", 0) / seconds
        timing = {"time/total": seconds, "time/tokens_per_second": speed}
        self._record_left(step, left)
        data = {"data/epoch": self._epoch(step, loader), "data/skipped": len(left)}
        return result, {**result.metrics, **timing, **data}

    async def _attempt(self, step: int, loader: StepLoader) -> tuple[StepResult, list[Left]] | None:
        """A step, and what was left out of it. None where a file went between the look at it and
        its use: nothing has moved yet, and another attempt will find it gone."""
        found = loader.step(step - 1)
        asked, left = list(found.questions), list(found.left)

        def usable(question: Question) -> bool:
            if problem := loader.usable(question):
                left.append(problem)
                return False
            asked.append(question)
            return True

        self.watch.updating = False
        try:
            result = await training_step(
                step,
                found.questions,
                self.buffer,
                self.parts,
                self.display.phase,
                usable,
                self.gate,
            )
        except TeacherError as error:
            self._keep_steps_before(step)
            raise without_teacher(self.run, step, error) from error
        except RunError as error:
            if self.watch.failed is None:
                raise
            raise failed_update(self.run, step, *self.watch.failed, error) from error
        except DataError as error:
            if self.watch.updating:
                raise unread_update(self.run, step, error) from error
            if all(loader.usable(question) is None for question in asked):
                raise
            return None
        return result, left

    def _record_left(self, step: int, left: Sequence[Left]) -> None:
        for question in left:
            self.run.append_skip(step, asdict(question))
            self.display.warn(
                f"step {step}: question `{question.id}` is left out: {question.reason}"
            )

    def _keep_steps_before(self, step: int) -> None:
        """A checkpoint of step - 1, which the failed `step` has left as it was."""
        saved = latest(self.run)
        if step - 1 > (step_of(saved) if saved else 0):
            self._save(step - 1)

    def _epoch(self, step: int, loader: StepLoader) -> float:
        return loader.order.epoch(step - 1, self.config.run.prompts_per_step)

    def _save_if_due(self, step: int) -> None:
        settings = self.config.run
        if step % settings.checkpoint_every and step < settings.steps and not self.stop.requested:
            return
        self._save(step)

    def _save(self, step: int) -> None:
        self.display.phase("save", 0, 1)
        save_checkpoint(
            self.run, step, self.parts.student, self.buffer, self.config, self.data_hash, self.gate
        )

    async def _evaluate_if_due(self, step: int, trackers: Trackers) -> None:
        """Before training, after it, and every `evaluation.every` steps; never twice."""
        every = self.config.evaluation.every
        due = step in (0, self.config.run.steps) or (every and step % every == 0)
        done = {row["step"] for row in self.run.evaluations()}
        if not due or step in done or not self.data.validation:
            return
        with self.stop.at_once():
            evaluation, groups = await evaluate_questions(
                step,
                self.data.validation,
                self.parts,
                lambda n, total: self.display.phase("evaluate", n, total),
            )
            scores = await evaluate_benchmarks(
                step,
                self.parts,
                self.run.root / "benchmarks" / step_name(step),
                lambda n, total: self.display.phase("evaluate", n, total),
            )
        evaluation = replace(evaluation, accuracy={**evaluation.accuracy, **scores})
        if self.config.run.save_rollouts:
            self.run.write_evaluation(step, groups)
        self.run.write_accuracies(step, question_accuracies(groups))
        self._keep_verdicts(step)
        self.run.append_evaluation(step, evaluation.to_dict())
        trackers.log(step, {"evaluation": evaluation.accuracy})
        self.display.evaluation(step, evaluation.accuracy)

    def _keep_verdicts(self, step: int) -> None:
        grader = self.parts.grader
        if isinstance(grader, Remembers) and (verdicts := grader.drain_verdicts()):
            self.run.append_verdicts(step, verdicts)

    def _greet(self) -> None:
        for note in self.data.notes():
            self.display.note(note)
        steps, size = self.config.run.steps, self.config.run.prompts_per_step
        if self.start >= steps:
            self.display.note(
                f"This run has had its {steps} steps. To go on: "
                f"zppo resume {self.run.root} run.steps={2 * steps}"
            )
            return
        self.display.note(
            f"{self.config.method} on {len(self.data.train)} questions, {size} a step, "
            f"{steps} steps, into {self.run.root}"
        )
        if not self.data.validation:
            self.display.note("No data.validation is set, so there is no evaluation.")

    def _warn_if_trivial(self, result: StepResult) -> None:
        if self.parts.method.distill is None and not np.any(result.advantages):
            self.display.warn(
                f"step {result.step}: in every group all rollouts are right or all are wrong, so "
                "nothing can be learnt from it; going on."
            )

    def _on_stop(self, name: str) -> None:
        self.display.note(f"{name}: finishing this step and saving. Once more to stop now.")

    def _result(self, seconds: float, complete: bool) -> RunResult:
        evaluations = {row["step"]: row for row in self.run.evaluations()}
        metrics = self.run.metrics()
        first, last = evaluations.get(0), evaluations.get(self.config.run.steps)
        return RunResult(
            run_dir=self.run.root,
            steps=metrics[-1]["step"] if metrics else 0,
            seconds=seconds,
            complete=complete,
            before=first["accuracy"] if first else {},
            after=last["accuracy"] if last else {},
            questions=first["questions"] if first else {},
            graduations=sum(row.get("buffer/graduated", 0) for row in metrics),
        )


def _refuse_fixed(overrides: Sequence[str]) -> None:
    """Raise `ConfigError` for an override that would make another run of it."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        if any(key == name or key.startswith(name.rstrip(".") + ".") for name in _FIXED):
            raise ConfigError(
                f"`{key}` cannot change within a run; start another one with `zppo train`."
            )
