"""One training step: Algorithm 1 of the paper, written against Student, Teacher and Grader.

All randomness is derived from (seed, step, purpose), so the same step gives the same result in a
resumed run, and no generator has a state to save.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.gate import NcqGate
from zppo.algorithm.lessons import inject, lessons
from zppo.algorithm.methods import Method
from zppo.algorithm.metrics import step_metrics
from zppo.algorithm.prompts import Templates
from zppo.algorithm.reformulate import reformulate
from zppo.algorithm.tasks import task_group
from zppo.algorithm.update import policy_update
from zppo.algorithm.zone import is_hard, post_cap, pre_cap, replay_size, share_of
from zppo.config import Config, EvaluationConfig, RolloutConfig
from zppo.errors import TeacherError
from zppo.rewards import Grader
from zppo.rewards.grader import drain_metrics
from zppo.student.base import Student
from zppo.teacher.base import ReadsTokens, Teacher, turns_of
from zppo.teacher.ledger import Account, Ledger
from zppo.types import (
    Group,
    GroupKind,
    Prompt,
    Question,
    Reformulation,
    Response,
    Rollout,
    RolloutStatus,
    StepResult,
    TeacherRollout,
)

#: Called as (phase, done, total) while a step runs.
Progress = Callable[[str, int, int], None]

# Streams of randomness within a step.
_REPLAY, _PLAIN, _TEACHER, _ZONE, _REFORMULATED, _UPDATE = range(6)


@dataclass(frozen=True, slots=True)
class StepParts:
    """Everything a step works with, built once a run."""

    config: Config
    method: Method
    student: Student
    teacher: Teacher | None
    grader: Grader
    templates: Templates


def no_progress(phase: str, done: int, total: int) -> None:
    """The default: say nothing."""


async def training_step(
    step: int,
    new: Sequence[Question],
    buffer: PromptReplayBuffer,
    parts: StepParts,
    progress: Progress = no_progress,
    usable: Callable[[Question], bool] = lambda question: True,
    gate: NcqGate | None = None,
) -> StepResult:
    """Run Algorithm 1 once on X_new = `new`; changes the student, the buffer and the NCQ gate. A
    replayed question that is not `usable` just now (its image has gone) stays in the buffer,
    unasked.

    Raises `RunError` when a loss or gradient is not finite, and `TeacherError` when more of the
    teacher's calls failed than `run.max_teacher_failure_share` allows, both before the optimiser
    moves. Below that share a step goes on without what the teacher did not give.
    """
    config, student = parts.config.algorithm, parts.student
    seed, teacher = parts.config.seed, parts.teacher
    gate = gate or NcqGate(config.ncq_gate)
    method = gate.applied_to(parts.method)
    ledger = Ledger(teacher) if teacher else None
    parts = replace(parts, method=method, teacher=ledger)
    timers = _Timers()

    # 1. Plain rollouts on X = X_new + X_replay, and 2. teacher rollouts on the hard ones, which
    #    start as soon as a question is known to be hard.
    rng = np.random.default_rng([seed, step, _REPLAY])
    n_replay = replay_size(config.rho_replay, len(new), len(buffer)) if method.replay else 0
    drawn = buffer.sample(n_replay, rng, exclude={q.id for q in new})
    replayed = [question for question in drawn if usable(question)]
    with timers("plain"):
        plain, teacher_rollouts = await _plain_phase(step, new, replayed, parts, progress)

    # 3. Pre-cap: the hardest questions, at most rho_aug * |X_new|.
    cap = share_of(config.rho_aug, len(new)) if method.reformulates else 0
    hard = [g for g in plain if is_hard(g.accuracy, config.hard_threshold)]
    kept = pre_cap(hard, cap, np.random.default_rng([seed, step, _ZONE]))

    # 4. Reformulate, and 5. post-cap: BCQ before NCQ, hardest first.
    with timers("reformulate"):
        built = await _reformulate_up_to(cap, kept, teacher_rollouts, step, parts, progress)
    account = ledger.close() if ledger else Account()
    _require_teacher(account, parts.config.run.max_teacher_failure_share)
    chosen = post_cap(kept, built, cap)
    with timers("reformulated"):
        reformulated = await sample_and_grade(
            [r.prompt for r in chosen if r.prompt],
            config.group_size,
            (seed, step, _REFORMULATED),
            parts,
            lambda done, total: progress("reformulated", done, total),
        )

    # 6. Update: plain, BCQ and NCQ rollouts of a question are separate groups. Distillation has
    #    an update of its own, to which rewards and advantages do not matter.
    if method.inject:
        plain = [inject(g, teacher_rollouts, step, parts) for g in plain]
    groups = [*plain, *reformulated]
    progress("update", 0, 1)
    with timers("update"):
        await student.release()
        if method.distill:
            learnt = plain if method.distill == "on" else lessons(plain, teacher_rollouts, parts)
            advantages = np.zeros(sum(len(g.rollouts) for g in groups))
            stats = await student.distill(learnt, _reader(teacher))
        else:
            advantages, stats = await policy_update(groups, (seed, step, _UPDATE), parts)
        await student.publish()
    progress("update", 1, 1)

    # The buffer moves by plain accuracy alone.
    changes = None
    if method.replay:
        questions = [g.question for g in plain]
        accuracies = [_plain_accuracy(g) for g in plain]
        changes = buffer.update(questions, accuracies, step=step)
    metrics = step_metrics(
        groups, advantages, teacher_rollouts, built, chosen, stats, buffer, changes
    )
    metrics |= gate.update(chosen, reformulated) | drain_metrics(parts.grader)
    return StepResult(
        step,
        tuple(groups),
        advantages,
        teacher_rollouts,
        tuple(built),
        metrics | (account.metrics() if ledger else {}) | timers.metrics(),
        tuple(account.failures),
    )


async def sample_and_grade(
    prompts: Sequence[Prompt],
    n: int,
    seed: Sequence[int],
    parts: StepParts,
    progress: Callable[[int, int], None] = lambda done, total: None,
    sampling: RolloutConfig | EvaluationConfig | None = None,
) -> list[Group]:
    """Roll out and grade `n` responses to each prompt, in order."""
    groups: dict[int, Group] = {}
    if not prompts:
        return []
    async for chunk in parts.student.rollout(prompts, n, seed, sampling):
        groups |= await _grade(
            {i: (prompts[i], responses) for i, responses in chunk.items()}, parts
        )
        progress(len(groups), len(prompts))
    return [groups[i] for i in range(len(prompts))]


# -- steps 1 and 2 ------------------------------------------------------------------------------


async def _plain_phase(
    step: int,
    new: Sequence[Question],
    replayed: Sequence[Question],
    parts: StepParts,
    progress: Progress,
) -> tuple[list[Group], dict[str, tuple[TeacherRollout, ...]]]:
    questions = [*new, *replayed]
    prompts = [Prompt(q, GroupKind.PLAIN, parts.templates.plain(q)) for q in questions]
    seed = parts.config.seed
    groups: dict[int, Group] = {}
    asked: list[asyncio.Task[dict[str, tuple[TeacherRollout, ...]]]] = []
    progress("plain", 0, len(prompts))
    async with task_group() as tasks:
        async for chunk in parts.student.rollout(
            prompts, parts.config.algorithm.group_size, (seed, step, _PLAIN)
        ):
            graded = await _grade({i: (prompts[i], r) for i, r in chunk.items()}, parts)
            groups |= graded
            progress("plain", len(groups), len(prompts))
            to_ask = [
                g.question
                for g in graded.values()
                if parts.method.teaches_all
                or is_hard(g.accuracy, parts.config.algorithm.hard_threshold)
            ]
            if to_ask and parts.method.needs_teacher_samples:
                # The chunk's number is part of the seed, not the time at which it was ready.
                asked.append(tasks.create_task(_ask_teacher(to_ask, step, len(asked), parts)))
    answers = {k: v for task in asked for k, v in task.result().items()}
    in_order = [replace(groups[i], replayed=i >= len(new)) for i in range(len(prompts))]
    return in_order, answers


async def _ask_teacher(
    questions: Sequence[Question], step: int, chunk: int, parts: StepParts
) -> dict[str, tuple[TeacherRollout, ...]]:
    """Step 2: G_T fresh teacher rollouts on each question, scored by the same reward.

    Of several teachers in order, each is asked the questions that those before it left unsolved.
    """
    assert parts.teacher is not None, "config validation requires a teacher here"
    seed = (parts.config.seed, step, _TEACHER, chunk)
    found: dict[str, tuple[TeacherRollout, ...]] = {q.id: () for q in questions}
    for turn, teacher in enumerate(turns_of(parts.teacher)):
        unsolved = [q for q in questions if not any(t.correct for t in found[q.id])]
        if not unsolved:
            break
        answers = await teacher.sample(
            [(q, parts.templates.teacher_prompt(q)) for q in unsolved],
            parts.config.algorithm.teacher_samples,
            (*seed, turn) if turn else seed,
        )
        flat = [(q, _as_text(t)) for q, texts in zip(unsolved, answers, strict=True) for t in texts]
        grades = iter(await parts.grader.grade(flat))
        for question, texts in zip(unsolved, answers, strict=True):
            found[question.id] += tuple(
                TeacherRollout(t, (grade := next(grades)).correct, grade.extracted, turn)
                for t in texts
            )
    return found


def _require_teacher(account: Account, limit: float) -> None:
    if account.failed_share > limit:
        reasons = ", ".join(f"{reason} {n}" for reason, n in account.reasons().items())
        raise TeacherError(
            f"{account.unanswered} of {account.asked} questions and tasks for the teacher came "
            f"back with nothing ({reasons}); run.max_teacher_failure_share={limit:g}."
        )


async def _grade(
    items: dict[int, tuple[Prompt, tuple[Response, ...]]], parts: StepParts
) -> dict[int, Group]:
    flat = [(p.question, r) for p, responses in items.values() for r in responses]
    grades = iter(await parts.grader.grade(flat))
    groups: dict[int, Group] = {}
    for index, (prompt, responses) in items.items():
        rollouts: list[Rollout] = []
        for response in responses:
            grade = next(grades)
            status = RolloutStatus.ROLLOUT_ERROR if response.failure else grade.status
            rollouts.append(Rollout(response, float(grade.correct), status, grade.extracted))
        groups[index] = Group(prompt, tuple(rollouts))
    return groups


def _as_text(text: str) -> Response:
    return Response(np.empty(0, dtype=np.int64), None, text, True)


# -- steps 4 and 5 ------------------------------------------------------------------------------


async def _reformulate_up_to(
    cap: int,
    kept: Sequence[Group],
    teacher_rollouts: dict[str, tuple[TeacherRollout, ...]],
    step: int,
    parts: StepParts,
    progress: Progress,
) -> list[Reformulation]:
    """Reformulate `kept` from the hardest on until the post-cap must be full.

    The post-cap walks in the same order, so it chooses what it would have chosen from all of
    them, and no teacher call is spent on a prompt that cannot be used.
    """
    built: list[Reformulation] = []
    ready, position = 0, 0
    while ready < cap and position < len(kept):
        progress("reformulate", ready, cap)
        wave = kept[
            position : position + max(1, (cap - ready) // parts.method.prompts_per_question)
        ]
        built += await reformulate(wave, teacher_rollouts, step, parts)
        position += len(wave)
        ready = sum(r.prompt is not None for r in built)
    return built


# -- step 6 -------------------------------------------------------------------------------------


def _reader(teacher: Teacher | None) -> ReadsTokens:
    assert isinstance(teacher, ReadsTokens), "config validation requires such a teacher here"
    return teacher


def _plain_accuracy(group: Group) -> float:
    """r_mean(x) of the student's own rollouts."""
    own = [r.reward for r in group.rollouts if not r.injected]
    return sum(own) / len(group.rollouts)


class _Timers:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Generator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        total = sum(self.seconds.values())
        return {f"time/{k}": v for k, v in self.seconds.items()} | {"time/step": total}
