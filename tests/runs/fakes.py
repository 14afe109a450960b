"""A run without models: a student that is one number, questions that are sums."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.algorithm.step import StepParts
from zppo.config import Config, load_config
from zppo.errors import RunError
from zppo.rewards import RuleGrader
from zppo.runs.build import DataParts, RunParts
from zppo.student.base import RolloutChunk
from zppo.teacher.base import TeacherRequest
from zppo.types import Group, Media, Prompt, Question, Response, UpdateStats


def _png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (2, 2), grey).save(buffer, "PNG")
    return buffer.getvalue()


def questions(n: int, prefix: str = "q") -> list[Question]:
    """Half of them with an image given as bytes, in two families."""
    return [
        Question(
            id=f"{prefix}{i}",
            text=f"What is {i} + {i}?",
            answer=str(2 * i),
            media=(Media("image", (_png(i),)),) if i % 2 else (),
            source="image/sums" if i % 2 else "text/sums",
        )
        for i in range(n)
    ]


class FakeStudent:
    """Right with a probability that is its skill; learning moves the skill by the advantages."""

    context_limit = 10_000

    def __init__(self, config: Config, skill: float = 0.3) -> None:
        self.config = config
        self.skill = skill
        self.fail_at_update: int | None = None
        self.updates = 0

    async def rollout(
        self,
        prompts: Sequence[Prompt],
        n: int,
        seed: Sequence[int],
        sampling: object = None,
    ) -> AsyncIterator[RolloutChunk]:
        for start in range(0, len(prompts), 3):
            await asyncio.sleep(0)
            yield {
                i: tuple(self._respond(prompts[i], (*seed, i, k)) for k in range(n))
                for i in range(start, min(start + 3, len(prompts)))
            }

    def _respond(self, prompt: Prompt, seed: Sequence[int]) -> Response:
        rng = np.random.default_rng(list(seed))
        # Some questions are out of reach, so that the buffer has something to hold.
        reach = 0.0 if int(prompt.question.answer) % 8 == 0 and prompt.kind == "plain" else 1.0
        right = rng.random() < self.skill * reach
        answer = prompt.question.answer if right else str(rng.integers(1_000, 2_000))
        tokens = rng.integers(0, 100, size=int(rng.integers(3, 9)))
        logprobs = np.full(len(tokens), -0.5, np.float32)
        return Response(tokens, logprobs, f"<think>so</think> \\boxed{{{answer}}}", True)

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        if self.fail_at_update == self.updates + 1:
            raise RunError("The loss of update 1 is nan.")
        self.updates += 1
        self.skill = float(np.clip(self.skill + 0.01 * np.abs(advantages).mean(), 0.0, 1.0))
        return UpdateStats(updates, {"loss": 1.0 - self.skill, "grad_norm": float("inf")})

    async def distill(self, groups: Sequence[Group], teacher: object) -> UpdateStats:
        advantages = np.full(sum(len(g.rollouts) for g in groups), 0.5)
        return await self.update(groups, advantages, 1, ())

    def encode(self, text: str) -> list[int]:
        return [ord(c) % 100 for c in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in token_ids)

    def as_response(self, text: str) -> Response:
        return Response(np.asarray(self.encode(text)), None, text, True)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)

    async def release(self) -> None: ...

    async def publish(self) -> None: ...

    def save(self, path: Path) -> None:
        state = {"skill": self.skill, "updates": self.updates}
        (path / "model.json").write_text(json.dumps(state))

    def load(self, path: Path, optimizer: bool = True) -> None:
        state = json.loads((path / "model.json").read_text())
        self.skill, self.updates = state["skill"], state["updates"]

    def export(self, path: Path) -> None:
        (path / "model.json").write_text("merged")


class FakeTeacher:
    """Right three times out of four."""

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        return [[f"\\boxed{{{q.answer if k else 'no'}}}" for k in range(n)] for q, _ in prompts]

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        return [f"<summary>{r.source_text.split('</think>')[-1]}</summary>" for r in requests]


def fake_build(config: Config, **changes: Any) -> RunParts:
    """What `build_run` does, with nothing to load."""
    student = FakeStudent(config)
    for name, value in changes.items():
        setattr(student, name, value)
    parts = StepParts(
        config=config,
        method=METHODS[config.method],
        student=student,
        teacher=FakeTeacher(),
        grader=RuleGrader(),
        templates=Templates.load(config.algorithm.templates),
    )
    return RunParts(parts, DataParts(questions(24), questions(12, "v")))


def fake_config(root: Path, *overrides: str) -> Config:
    return load_config(
        "lab",
        [
            f"run.dir={root}",
            "run.steps=6",
            "run.prompts_per_step=8",
            "run.checkpoint_every=2",
            "run.tensorboard=false",
            "algorithm.group_size=4",
            "algorithm.rho_replay=0.5",
            *overrides,
        ],
    )


def comparable(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what a clock says."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
