"""What is kept of a step whose update could not be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo.errors import RunError
from zppo.runs.checkpoint import latest
from zppo.runs.directory import RunDirectory
from zppo.student.base import Student
from zppo.types import Group, StepResult, UpdateStats


class UpdateWatch:
    """A student that remembers the batch its update failed on; otherwise the one it wraps."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self.failed: tuple[Sequence[Group], np.ndarray] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._student, name)

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        try:
            return await self._student.update(groups, advantages, updates, seed)
        except RunError:
            self.failed = (groups, advantages)
            raise


def failed_update(
    run: RunDirectory,
    step: int,
    groups: Sequence[Group],
    advantages: np.ndarray,
    error: RunError,
) -> RunError:
    """Dump the batch; the error to raise, which says where everything lies and what to do."""
    batch = run.write_failure(StepResult(step, tuple(groups), advantages, {}, ()))
    good = latest(run)
    kept = (
        f"The last good checkpoint is `{good}`."
        if good
        else "There is no checkpoint yet, the run goes on from its start."
    )
    return RunError(
        f"Step {step} was stopped before the optimiser took a bad update: {error}\n"
        f"{kept} The batch is in `{batch}`.\n"
        "What helps: a lower learning rate, or full precision, for instance\n"
        f"  zppo resume {run.root} optimizer.lr=1e-7\n"
        f"  zppo resume {run.root} student.dtype=fp32"
    )
