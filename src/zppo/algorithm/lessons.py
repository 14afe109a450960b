"""Where a teacher's response itself is learnt from, token for token.

ZPPO never does this. Two of the methods it is compared with do: the naive baseline that puts a
correct teacher response into a group, and off-policy distillation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zppo.algorithm.reformulate import question_rng
from zppo.types import (
    Group,
    GroupOutcome,
    Question,
    Response,
    Rollout,
    RolloutStatus,
    TeacherRollout,
)

if TYPE_CHECKING:
    from zppo.algorithm.step import StepParts

#: The teacher's rollouts by question id.
Answers = Mapping[str, Sequence[TeacherRollout]]


def inject(group: Group, answers: Answers, step: int, parts: StepParts) -> Group:
    """The naive baseline: a correct teacher response in place of one rollout of an all-wrong
    group, learnt from as if the student had sampled it."""
    if group.outcome is not GroupOutcome.ALL_WRONG:
        return group
    right = _correct(group.question, answers, parts)
    if not right:
        return group
    rng = question_rng(parts.config.seed, step, group.question.id, "inject")
    rollout = _as_rollout(*right[rng.integers(len(right))])
    place = int(rng.integers(len(group.rollouts)))
    rollouts = (*group.rollouts[:place], rollout, *group.rollouts[place + 1 :])
    return replace(group, rollouts=rollouts)


def lessons(plain: Sequence[Group], answers: Answers, parts: StepParts) -> list[Group]:
    """What off-policy distillation learns from: the correct teacher rollouts of each question,
    and nothing of a question without one."""
    taught: list[Group] = []
    for group in plain:
        if right := _correct(group.question, answers, parts):
            taught.append(replace(group, rollouts=tuple(_as_rollout(*pair) for pair in right)))
    return taught


def _correct(
    question: Question, answers: Answers, parts: StepParts
) -> list[tuple[TeacherRollout, Response]]:
    """The correct teacher rollouts, in the student's tokens. One longer than the student's own
    responses may be stays out: its positions could lie beyond the context."""
    responses = [
        (t, parts.student.as_response(t.text)) for t in answers.get(question.id, ()) if t.correct
    ]
    limit = parts.config.rollout.max_response_tokens
    return [(t, response) for t, response in responses if len(response.token_ids) <= limit]


def _as_rollout(answer: TeacherRollout, response: Response) -> Rollout:
    return Rollout(response, 1.0, RolloutStatus.GRADED, answer.extracted, injected=True)
