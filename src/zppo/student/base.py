"""The seam between the algorithm and whatever runs the student model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from zppo.config import EvaluationConfig, RolloutConfig
from zppo.teacher.base import ReadsTokens
from zppo.types import Group, Prompt, Response, UpdateStats

#: Responses of some prompts, by the prompt's position in the request.
RolloutChunk = dict[int, tuple[Response, ...]]


class Student(Protocol):
    """A policy that samples groups and learns from them.

    All randomness comes from the `seed` a caller passes, so a step can be repeated exactly and a
    resumed run needs no generator state.
    """

    def rollout(
        self,
        prompts: Sequence[Prompt],
        n: int,
        seed: Sequence[int],
        sampling: RolloutConfig | EvaluationConfig | None = None,
    ) -> AsyncIterator[RolloutChunk]:
        """Sample `n` responses a prompt. Yields chunks as they finish, so that the caller can
        grade them and ask the teacher while the rest still samples. Every prompt index appears
        in exactly one chunk. Which prompts share a chunk depends on the prompts alone.
        `sampling` replaces the training config's, for evaluation."""
        ...

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        """Take exactly `updates` optimiser steps over `updates` mini-batches of the rollouts.

        `advantages` has shape (N,), one a rollout, groups in order. Raises `RunError` before the
        optimiser steps when a loss or gradient is not finite.
        """
        ...

    async def distill(self, groups: Sequence[Group], teacher: ReadsTokens) -> UpdateStats:
        """Take one optimiser step towards the teacher's distributions on the groups' rollouts:
        the per-token Jensen-Shannon divergence (method section 5), each group weighing the same.

        Raises `RunError` before the optimiser steps when a loss or gradient is not finite.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, without special tokens: special-token strings in `text` are
        encoded as ordinary text."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens removed."""
        ...

    def as_response(self, text: str) -> Response:
        """`text` as a finished response of this student's vocabulary, log-probs unknown."""
        ...

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt as the model sees it: chat template, visual tokens and forced
        prefix included."""
        ...

    def rendered(self, prompt: Prompt) -> str:
        """The prompt as text, chat template included, each picture's tokens as one. For people."""
        ...

    @property
    def context_limit(self) -> int:
        """Most tokens a prompt and its response may have together."""
        ...

    async def release(self) -> None:
        """Free what sampling holds before an update (a no-op where sampler and trainer share)."""
        ...

    async def publish(self) -> None:
        """Make the updated weights the ones the sampler uses."""
        ...

    def save(self, path: Path) -> None:
        """Write model, tokenizer and optimiser under `path`."""
        ...

    def load(self, path: Path, optimizer: bool = True) -> None:
        """Restore what `save` wrote, exactly; `optimizer` False leaves its optimiser out, for a
        student that will not learn."""
        ...


def close_student(student: Student) -> None:
    """Let go of what its engine holds besides this process: workers and servers of a cluster."""
    close = getattr(student, "close", None)
    if close is not None:
        close()


def engine_config(student: Student) -> str | None:
    """Its engine's own resolved config, YAML, where that has one besides ours."""
    resolved = getattr(student, "engine_config", None)
    return None if resolved is None else resolved()
