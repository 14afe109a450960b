"""One JSON line a group: what a step's rollout log holds, and what a viewer reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from zppo.runs.media import MediaStore
from zppo.types import Candidate, Group, Question, Reformulation, StepResult, TeacherRollout


def step_lines(result: StepResult, media: MediaStore) -> Iterator[str]:
    """The rollout log of a step: its groups in order, the reformulations that were skipped and
    why, the teacher's rollouts, and what it failed to give. Every line names its `type`."""
    built = {_key(r.question, r.kind): r for r in result.reformulations if r.prompt is not None}
    for row in group_rows(result.groups, result.advantages, media, built):
        yield _line(row)
    for reformulation in result.reformulations:
        if reformulation.prompt is None:
            yield _line(
                {
                    "type": "skipped",
                    "question": reformulation.question.id,
                    "kind": reformulation.kind.value,
                    "reason": reformulation.skipped,
                    "refused": list(reformulation.refused),
                }
            )
    for question, rollouts in result.teacher_rollouts.items():
        yield _line(
            {
                "type": "teacher",
                "question": question,
                "rollouts": [_teacher(r) for r in rollouts],
            }
        )
    for failure in result.teacher_failures:
        yield _line(
            {
                "type": "teacher_failed",
                "question": failure.question_id,
                "purpose": failure.purpose,
                "reason": failure.reason,
                "count": failure.count,
            }
        )


def group_lines(groups: Sequence[Group], media: MediaStore) -> Iterator[str]:
    """Groups without advantages: the log of an evaluation."""
    for row in group_rows(groups, None, media, {}):
        yield _line(row)


def group_rows(
    groups: Sequence[Group],
    advantages: np.ndarray | None,
    media: MediaStore,
    built: dict[tuple[str, str], Reformulation],
) -> Iterator[dict[str, Any]]:
    """One dict a group. `advantages` is (N,), one a rollout, groups in order."""
    start = 0
    for group in groups:
        stop = start + len(group.rollouts)
        row = _group(group, media, built.get(_key(group.question, group.kind)))
        if advantages is not None:
            for rollout, advantage in zip(row["rollouts"], advantages[start:stop], strict=True):
                rollout["advantage"] = float(advantage)
        yield row
        start = stop


def _group(group: Group, media: MediaStore, reformulation: Reformulation | None) -> dict[str, Any]:
    question = group.question
    row: dict[str, Any] = {
        "type": "group",
        "kind": group.kind.value,
        "question": question.id,
        "source": question.source,
        "gold": question.answer,
        "media": [media.to_dict(item) for item in question.media],
        "replayed": group.replayed,
        "accuracy": group.accuracy,
        "prompt": group.prompt.text,
        "prefix_tokens": len(group.prompt.prefix_ids),
        "rollouts": [
            {
                "text": rollout.response.text,
                "reward": rollout.reward,
                "status": rollout.status.value,
                "extracted": rollout.extracted,
                "tokens": len(rollout.response.token_ids),
                "finished": rollout.response.finished,
                "injected": rollout.injected,
            }
            for rollout in group.rollouts
        ],
    }
    if reformulation is not None:
        row["candidates"] = [_candidate(c) for c in reformulation.candidates]
        row["wrong_answers"] = list(reformulation.wrong_answers)
        row["refused"] = list(reformulation.refused)
    return row


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "text": candidate.text,
        "original": candidate.original,
        "correct": candidate.correct,
        "extracted": candidate.extracted,
    }


def _teacher(rollout: TeacherRollout) -> dict[str, Any]:
    return {
        "text": rollout.text,
        "correct": rollout.correct,
        "extracted": rollout.extracted,
        "turn": rollout.turn,
    }


def _key(question: Question, kind: str) -> tuple[str, str]:
    return question.id, str(kind)


def _line(row: dict[str, Any]) -> str:
    # A lone surrogate (half of a byte-level token) cannot be encoded in UTF-8; escape all instead.
    text = json.dumps(row, ensure_ascii=False)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            text = json.dumps(row)
    return text + "\n"
