"""What is kept and said of a step that could not be taken, or not in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from zppo.errors import DataError, RunError, TeacherError
from zppo.runs.checkpoint import latest
from zppo.runs.directory import RunDirectory
from zppo.student.base import Student
from zppo.teacher.base import ReadsTokens
from zppo.types import Group, StepResult, UpdateStats

#: Share of a step's teacher calls that may come back with nothing before it is worth a line.
_WORTH_A_WARNING = 0.1


class UpdateWatch:
    """A student that remembers the batch its update failed on; otherwise the one it wraps."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self.failed: tuple[Sequence[Group], np.ndarray] | None = None
        #: Whether the update of the present step has begun, so that the weights may have moved.
        self.updating = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._student, name)

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        self.updating = True
        try:
            return await self._student.update(groups, advantages, updates, seed)
        except RunError:
            self.failed = (groups, advantages)
            raise

    async def distill(self, groups: Sequence[Group], teacher: ReadsTokens) -> UpdateStats:
        self.updating = True
        try:
            return await self._student.distill(groups, teacher)
        except RunError:
            self.failed = (groups, np.zeros(sum(len(g.rollouts) for g in groups)))
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


def without_teacher(run: RunDirectory, step: int, error: TeacherError) -> RunError:
    """The error to raise where a step was not taken for want of a teacher."""
    return RunError(
        f"Step {step} was not taken for want of a teacher: {error}\n"
        f"When it answers again, go on with: zppo resume {run.root}"
    )


def unread_update(run: RunDirectory, step: int, error: DataError) -> RunError:
    """The error to raise where an image went while the update was reading it."""
    return RunError(
        f"Step {step} was stopped in its update, which could not read a file again: {error}\n"
        f"Go on without that question, from the last checkpoint: zppo resume {run.root}"
    )


def unanswered(result: StepResult) -> str | None:
    """A warning where the teacher gave nothing on many of its calls in a step that was taken."""
    share = result.metrics.get("teacher/failed_share", 0.0)
    if share <= _WORTH_A_WARNING:
        return None
    counts: Counter[str] = Counter()
    for failure in result.teacher_failures:
        counts[failure.reason] += failure.count
    reasons = ", ".join(f"{reason} {n}" for reason, n in counts.most_common())
    return (
        f"step {result.step}: the teacher gave nothing on {share:.0%} of its calls ({reasons}); "
        "going on. run.max_teacher_failure_share stops a run for that."
    )
