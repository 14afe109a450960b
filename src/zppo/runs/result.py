"""What a run hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run, or where it was stopped.

    before, after   accuracy by family of question (`all` over all of them), empty without
                    validation data; `after` is empty for a run that was stopped.
    graduations     questions that left the replay buffer because the student now solves them.
    steps, seconds  training steps on disk and the wall time of this call.
    complete        False when a signal stopped the run before its last step.
    """

    run_dir: Path
    steps: int
    seconds: float
    complete: bool
    before: dict[str, float] = field(default_factory=dict[str, float])
    after: dict[str, float] = field(default_factory=dict[str, float])
    questions: dict[str, int] = field(default_factory=dict[str, int])
    graduations: int = 0
