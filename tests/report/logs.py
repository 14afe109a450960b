"""Rollout logs made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from zppo.report.reading import GroupRow, RolloutRow, StepLog
from zppo.types import Candidate, TeacherRollout


def group(
    kind: str,
    answers: Sequence[str | None],
    rewards: Sequence[float],
    *,
    question: str = "q",
    candidates: tuple[Candidate, ...] = (),
    wrong_answers: tuple[str, ...] = (),
    injected: int | None = None,
    text: str = "so",
) -> GroupRow:
    """`injected` is the place of an injected rollout."""
    rollouts = tuple(
        RolloutRow(text, float(reward), "graded", answer, 3, True, i == injected, 0.0)
        for i, (answer, reward) in enumerate(zip(answers, rewards, strict=True))
    )
    accuracy = sum(rewards) / len(rewards)
    return GroupRow(
        kind,
        question,
        "text/1",
        "0.5",
        f"prompt of {question}",
        False,
        accuracy,
        0,
        (),
        rollouts,
        candidates,
        wrong_answers,
    )


def log(
    step: int, *groups: GroupRow, teacher: dict[str, tuple[TeacherRollout, ...]] | None = None
) -> StepLog:
    return StepLog(step, groups, teacher=teacher or {})


def teacher(**answers: Sequence[tuple[str, bool]]) -> dict[str, tuple[TeacherRollout, ...]]:
    """Rollouts (answer, right) by question."""
    return {
        question: tuple(TeacherRollout("so", right, answer) for answer, right in rollouts)
        for question, rollouts in answers.items()
    }
