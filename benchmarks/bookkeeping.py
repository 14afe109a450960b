"""What the core itself costs in a step of the paper's size: `python benchmarks/bookkeeping.py`.

384 new and 96 replayed prompts x 8 responses of 12,288 tokens, 96 reformulated prompts, a full
buffer of 10,000. Student, teacher and grader are fakes that hand out what was made before; the time
spent inside them is subtracted. What remains is zone, reformulation, prompts, advantages, metrics
and buffer, then the rollout log, the metrics line and the buffer's part of a checkpoint.

The share is of a step of the paper's dearest comparable run: 68 hours for 200 steps of ZPPO with a
0.8B student on 64 H100s (its cost table), 1,224 seconds a step. Grading is no
part of it: it runs in processes of its own while other chunks sample (`grading.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.algorithm.step import StepParts, training_step
from zppo.config import load_config
from zppo.rewards.grader import Grade
from zppo.runs.checkpoint import save_checkpoint
from zppo.runs.directory import RunDirectory
from zppo.teacher.base import TeacherRequest
from zppo.types import Prompt, Question, Response, RolloutStatus, StepResult, UpdateStats

PAPER_STEP = 68 * 3600 / 200  # seconds
CHARACTERS_A_TOKEN = 4
BOX = "\\boxed"


class Clock:
    """CPU seconds, and how many of them the fakes took."""

    def __init__(self) -> None:
        self.outside = 0.0

    @contextmanager
    def fake(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.outside += time.process_time() - began

    @contextmanager
    def part(self, name: str, rows: dict[str, float]) -> Iterator[None]:
        began, outside = time.process_time(), self.outside
        yield
        rows[name] = time.process_time() - began - (self.outside - outside)


class FakeStudent:
    """Implements `Student`; its responses end in their question's own or another number."""

    context_limit = 262_144

    def __init__(self, tokens: int, group: int, clock: Clock):
        rng = np.random.default_rng(0)
        words = np.array(["".join(rng.choice(list("etaoinshrdlu"), 5)) for _ in range(5_000)])
        self.texts = [
            " ".join(rng.choice(words, tokens * CHARACTERS_A_TOKEN // 6)) for _ in range(64)
        ]
        self.ids = rng.integers(0, 150_000, tokens)
        self.logprobs = np.full(tokens, -0.5, np.float32)
        self.group, self.clock = group, clock

    async def rollout(
        self, prompts: Sequence[Prompt], n: int, seed: Sequence[int], sampling: Any = None
    ) -> AsyncIterator[dict[int, tuple[Response, ...]]]:
        for start in range(0, len(prompts), 8):
            with self.clock.fake():
                chunk = {
                    i: tuple(self._respond(prompts[i], i, k) for k in range(n))
                    for i in range(start, min(start + 8, len(prompts)))
                }
            yield chunk

    def _respond(self, prompt: Prompt, i: int, k: int) -> Response:
        # A third of the groups all wrong, a third mixed, a third all right.
        right = {0: False, 1: k % 2 == 0, 2: True}[i % 3]
        answer = prompt.question.answer if right else str(10_000 + k)
        text = f"<think>{self.texts[(i + k) % 64]}</think> \\boxed{{{answer}}}"
        return Response(self.ids, self.logprobs, text, True)

    async def update(self, groups: Any, advantages: np.ndarray, updates: int, seed: Any) -> Any:
        return UpdateStats(updates, {"loss": 0.1, "grad_norm": 1.0})

    async def release(self) -> None: ...

    async def publish(self) -> None: ...

    def encode(self, text: str) -> list[int]:
        return [0] * (len(text) // CHARACTERS_A_TOKEN)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text) // CHARACTERS_A_TOKEN

    def save(self, path: Path) -> None: ...


class FakeTeacher:
    """Implements `Teacher`: always right, at once."""

    def __init__(self, student: FakeStudent):
        self.text = student.texts[0]

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        return [[f"{self.text} \\boxed{{{q.answer}}}"] * n for q, _ in prompts]

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        return [_summary(r.source_text) for r in requests]


def _summary(text: str) -> str:
    """1,500 characters in five lines, with the response's own answer."""
    lines = "\n".join(text[i : i + 300] for i in range(10, 1_210, 300))
    return f"<summary>{lines}\n{text[text.rindex(BOX) :]}</summary>"


class FakeGrader:
    """Implements `Grader`: compares the end of the text with the gold answer."""

    def __init__(self, clock: Clock):
        self.clock = clock

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        with self.clock.fake():
            answers = [r.text[r.text.rindex("{") + 1 : -1] for _, r in items]
            return [
                Grade(a == q.answer, RolloutStatus.GRADED, a)
                for a, (q, _) in zip(answers, items, strict=True)
            ]


def measure(prompts: int, tokens: int, capacity: int, folder: Path) -> dict[str, float]:
    """CPU seconds of each part of one step."""
    config = load_config(
        None, ["method=zppo", f"run.prompts_per_step={prompts}", f"run.dir={folder / 'run'}"]
    )
    clock, rows = Clock(), {}
    student = FakeStudent(tokens, config.algorithm.group_size, clock)
    parts = StepParts(
        config, METHODS["zppo"], cast(Any, student), FakeTeacher(student), FakeGrader(clock),
        Templates.default(),
    )  # fmt: skip
    run = RunDirectory.create(config)

    def questions(n: int, prefix: str) -> list[Question]:
        text = "How many of the items in the table are both red and round? " * 6
        return [Question(f"{prefix}{i}", f"{i}: {text}", str(i)) for i in range(n)]

    buffer = PromptReplayBuffer(capacity)
    old = questions(capacity, "old")
    buffer.update(old, [0.0] * capacity, step=0)
    results: list[StepResult] = []

    async def step() -> None:  # asyncio.run itself prints what it returns, and throws it away
        results.append(await training_step(1, questions(prompts, "new"), buffer, parts))

    with clock.part("step: zone, prompts, advantages, metrics, buffer", rows):
        asyncio.run(step())
    result = results[0]
    with clock.part("rollout log", rows):
        path = run.write_rollouts(result)
    with clock.part("metrics line", rows):
        run.append_metrics(1, result.metrics)
    with clock.part("checkpoint without the model: buffer and state", rows):
        save_checkpoint(run, 1, cast(Any, student), buffer, config, "0")
    sampled = sum(len(g.rollouts) for g in result.groups)
    print(
        f"{len(result.groups)} groups, {sampled} rollouts, {sampled * tokens / 1e6:.0f}M tokens, "
        f"{len(buffer)} questions in the buffer, rollout log {path.stat().st_size / 1e6:.0f} MB"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=384)
    parser.add_argument("--tokens", type=int, default=12_288)
    parser.add_argument("--buffer", type=int, default=10_000)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.prompts, options.tokens, options.buffer, Path(folder))
    rows["all"] = sum(rows.values())
    for name, seconds in rows.items():
        print(f"{name:52} {seconds:8.3f} s   {seconds / PAPER_STEP:8.3%} of {PAPER_STEP:.0f} s")


if __name__ == "__main__":
    main()
