"""Our side: `training_step` with the embedded engine. `python zppo_worker.py JOB RESULT`."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from lengths import Schedule
from plan import Job, Measured, PromptRow, clocked, read_job, write_result

from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.algorithm.step import StepParts, training_step
from zppo.config import Config, load_config
from zppo.rewards.grader import Grade
from zppo.runs.build import build_student
from zppo.student import sampler
from zppo.teacher.base import TeacherRequest
from zppo.types import Media, Question, Response, RolloutStatus


class ScheduledGrader:
    """Rewards by the job's rule; implements `Grader`. Question ids are prompt numbers.

    A question that comes again within a step comes reformulated: half of its first such group is
    right (BCQ), nothing of the second (NCQ). The teacher, whose responses have no tokens of this
    student, always is.
    """

    def __init__(self, job: Job):
        self.job = job
        self.seen: Counter[str] = Counter()

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        return [Grade(self._right(q, r), RolloutStatus.GRADED) for q, r in items]

    def _right(self, question: Question, response: Response) -> bool:
        if not len(response.token_ids):
            return True
        row = self.seen[question.id]
        self.seen[question.id] += 1
        if row >= self.job.group_size:
            return row % 2 == 1 and row < 2 * self.job.group_size
        return self.job.reward(int(question.id), row) > 0.5


class FreeTeacher:
    """Knows every answer and takes no time; implements `Teacher`."""

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        return [[WORKED.format(number=question.id)] * n for question, _ in prompts]

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        raise AssertionError("traces are cut, not compressed")


WORKED = "Take what is given, add it up step by step, check the sum, and you have {number} at last."


def settings(job: Job) -> Config:
    return load_config(
        "lab",
        [
            f"method={job.method}",
            "teacher.kind=scripted",  # in name: see FreeTeacher
            "algorithm.compress=none",
            f"algorithm.candidate_max_tokens={job.candidate_tokens or 512}",
            f"seed={job.seed}",
            f"student.model={job.model}",
            f"student.dtype={job.dtype}",
            "student.device=cpu",
            f"student.threads={job.threads}",
            f"student.micro_batch_tokens={job.micro_tokens}",
            f"algorithm.group_size={job.group_size}",
            f"rollout.max_response_tokens={job.max_new_tokens}",
            f"optimizer.lr={job.lr}",
            f"optimizer.updates_per_step={job.updates}",
            f"run.prompts_per_step={job.prompts_per_step}",
        ],
    )


def control_lengths(limit: int, stop_ids: Sequence[int]) -> None:
    """Put schedules between the sampler and its draws; each of its lanes, a thread of its own, has
    one."""
    draw = sampler._draw
    lane = threading.local()

    def controlled(logits: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if not hasattr(lane, "schedule"):
            lane.schedule = Schedule(limit, stop_ids)
        lane.schedule.forbid(logits, float("-inf"))
        token, logprob = draw(logits, *rest)
        return lane.schedule.end(token), logprob

    sampler._draw = controlled


def question(number: int, row: PromptRow) -> Question:
    media = (Media("image", (row.image,)),) if row.image else ()
    return Question(str(number), row.question, answer="", media=media)


async def run(job: Job) -> list[Measured]:
    config = settings(job)
    student: Any = build_student(config)
    control_lengths(job.max_new_tokens, student.loaded.stop_ids)
    grader, templates = ScheduledGrader(job), Templates.default()
    parts = StepParts(config, METHODS[config.method], student, FreeTeacher(), grader, templates)
    buffer = PromptReplayBuffer(config.algorithm.buffer_capacity)
    steps: list[Measured] = []
    for step in range(job.warmup + job.steps):
        first = step * job.prompts_per_step
        new = [question(first + i, row) for i, row in enumerate(job.batch(step))]
        grader.seen.clear()
        now = Measured()
        with clocked(now):
            result = await training_step(step, new, buffer, parts)
        responses = [r.response for g in result.groups for r in g.rollouts]
        now.sampling_seconds = sum(
            result.metrics.get(f"time/{phase}", 0.0) for phase in ("plain", "reformulated")
        )
        now.update_seconds = result.metrics["time/update"]
        now.tokens = sum(len(r.token_ids) for r in responses)
        now.stopped = sum(r.finished for r in responses)
        now.prompt_tokens = sum(
            student.prompt_tokens(g.prompt) * len(g.rollouts) for g in result.groups
        )
        now.grad_norms = [result.metrics["update/grad_norm"]]
        steps.append(now)
    return steps


def main() -> None:
    job = read_job(sys.argv[1])
    torch.set_num_threads(job.threads)
    steps = asyncio.run(run(job))
    names = ("zppo", "torch", "transformers")
    write_result(sys.argv[2], steps, {name: version(name) for name in names})


if __name__ == "__main__":
    main()
