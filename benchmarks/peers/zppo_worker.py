"""Our side: `training_step` with the embedded engine. `python zppo_worker.py JOB RESULT`."""

from __future__ import annotations

import asyncio
import sys
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
from zppo.types import Media, Question, Response, RolloutStatus


class ScheduledGrader:
    """Rewards by the job's rule; implements `Grader`. Question ids are prompt numbers."""

    def __init__(self, job: Job):
        self.job = job

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        seen: Counter[str] = Counter()
        grades: list[Grade] = []
        for question, _ in items:
            right = self.job.reward(int(question.id), seen[question.id]) > 0.5
            seen[question.id] += 1
            grades.append(Grade(right, RolloutStatus.GRADED))
        return grades


def settings(job: Job) -> Config:
    return load_config(
        "lab",
        [
            "method=grpo",
            "teacher=null",
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


def control_lengths(schedule: Schedule) -> None:
    """Put `schedule` between the sampler and its draws."""
    draw = sampler._draw

    def controlled(logits: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        schedule.forbid(logits, float("-inf"))
        token, logprob = draw(logits, *rest)
        return schedule.end(token), logprob

    sampler._draw = controlled


def question(number: int, row: PromptRow) -> Question:
    media = (Media("image", (row.image,)),) if row.image else ()
    return Question(str(number), row.question, answer="", media=media)


async def run(job: Job) -> list[Measured]:
    config = settings(job)
    student: Any = build_student(config)
    control_lengths(Schedule(job.max_new_tokens, student.loaded.stop_ids))
    grader, templates = ScheduledGrader(job), Templates.default()
    parts = StepParts(config, METHODS["grpo"], student, None, grader, templates)
    buffer = PromptReplayBuffer(1)
    steps: list[Measured] = []
    for step in range(job.warmup + job.steps):
        first = step * job.prompts_per_step
        new = [question(first + i, row) for i, row in enumerate(job.batch(step))]
        now = Measured()
        with clocked(now):
            result = await training_step(step, new, buffer, parts)
        responses = [r.response for g in result.groups for r in g.rollouts]
        now.sampling_seconds = result.metrics["time/plain"]
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
