"""The data that flows through one training step. Frozen, without behaviour beyond derived values.

Glossary
    question   what the data set holds: text, media, gold answer.
    prompt     what the student is shown for a question: the question itself, or its BCQ / NCQ /
               Hint / Prefix reformulation, closer included.
    response   tokens sampled by a model for one prompt.
    rollout    a response with its reward.
    group      one prompt and the G rollouts sampled for it: the unit of computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np

QuestionKind = Literal["short", "free"]


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a video of a question.

    `parts` are file paths (`str`) or encoded files (`bytes`). An image has one part. A video has
    one part (a video file) or several (its frames in order, sampled at `fps` frames a second).
    """

    kind: Literal["image", "video"]
    parts: tuple[str | bytes, ...]
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One row of the data: the x of the paper.

    `id` is stable across runs. `kind` says how it is graded: `short` by rule, `free` by the judge.
    `reference` is a worked solution where the data has one. `source` names the sub-dataset.
    """

    id: str
    text: str
    answer: str
    kind: QuestionKind = "short"
    options: tuple[str, ...] | None = None
    media: tuple[Media, ...] = ()
    reference: str | None = None
    source: str = ""


class GroupKind(StrEnum):
    """Which prompt a group's rollouts answer (method section 2 and the baselines of section 5)."""

    PLAIN = "plain"
    BCQ = "bcq"
    NCQ = "ncq"
    HINT = "hint"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the student sees: the user turn `text` (closer included, media first) of a question.

    `prefix_ids` are response tokens forced before sampling starts (the Prefix baseline). They are
    context like the prompt itself, so no loss ever reaches them.
    """

    question: Question
    kind: GroupKind
    text: str
    prefix_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Tokens sampled for a prompt.

    token_ids   (R,) int64, the sampled tokens, end-of-turn token included when it was sampled.
    logprobs    (R,) float32, natural log, under the policy that sampled them; None when unknown,
                then the engine scores them with its weights before the first update.
    text        the decoded response, forced prefix included, special tokens removed.
    finished    True when the model ended its turn itself, False when the token limit cut it.
    failure     why an engine could not sample it; then it has no tokens.
    """

    token_ids: np.ndarray
    logprobs: np.ndarray | None
    text: str
    finished: bool
    failure: str | None = None


class RolloutStatus(StrEnum):
    """How the reward of a rollout came about. Every value but GRADED is counted in the metrics."""

    GRADED = "graded"
    TRUNCATED = "truncated"  # cut by the token limit with no answer found
    NO_ANSWER = "no_answer"  # finished without an answer that can be read
    GRADER_TIMEOUT = "grader_timeout"
    GRADER_ERROR = "grader_error"
    JUDGE_MALFORMED = "judge_malformed"
    JUDGE_ERROR = "judge_error"
    ROLLOUT_ERROR = "rollout_error"  # never sampled: a rollout server failed to answer


@dataclass(frozen=True, slots=True)
class Rollout:
    """A response and its reward r in {0, 1}. `injected` marks a teacher response put into the
    group by the `inject` baseline; no other method has one."""

    response: Response
    reward: float
    status: RolloutStatus
    extracted: str | None = None
    injected: bool = False

    @property
    def correct(self) -> bool:
        return self.reward > 0.5


class GroupOutcome(StrEnum):
    """A group by its accuracy, never by a floating-point standard deviation."""

    ALL_WRONG = "all_wrong"
    MIXED = "mixed"
    ALL_RIGHT = "all_right"


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt with its rollouts. Plain, BCQ and NCQ rollouts of one question are separate
    groups, each with its own baseline."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    replayed: bool = False

    @property
    def question(self) -> Question:
        return self.prompt.question

    @property
    def kind(self) -> GroupKind:
        return self.prompt.kind

    @property
    def accuracy(self) -> float:
        """r_mean(x): the mean reward of the group."""
        return sum(r.reward for r in self.rollouts) / len(self.rollouts)

    @property
    def outcome(self) -> GroupOutcome:
        right = sum(r.correct for r in self.rollouts)
        if right == 0:
            return GroupOutcome.ALL_WRONG
        return GroupOutcome.ALL_RIGHT if right == len(self.rollouts) else GroupOutcome.MIXED


@dataclass(frozen=True, slots=True)
class TeacherRollout:
    """A fresh teacher response to a question, scored by the same reward as the student's.
    `turn` counts the teachers asked before the one that gave it, where several are in order."""

    text: str
    correct: bool
    extracted: str | None = None
    turn: int = 0


@dataclass(frozen=True, slots=True)
class TeacherFailure:
    """What a teacher was asked for and did not give: `count` samples of an answer, or a task."""

    question_id: str
    purpose: Literal["answer", "compress", "hint", "judge"]
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace shown inside a `<candidate>` block, with what the audit needs to know about it.
    Nothing but `text` reaches the prompt."""

    text: str
    original: str
    correct: bool
    extracted: str | None


@dataclass(frozen=True, slots=True)
class Reformulation:
    """A reformulated prompt and where it came from, for the logs and the audit.

    `skipped` is empty when the prompt was built; otherwise it names why it was not, and `prompt`
    is None. `refused` names why a trace of it could not be compressed, one reason a trace.
    """

    question: Question
    kind: GroupKind
    prompt: Prompt | None
    candidates: tuple[Candidate, ...] = ()
    wrong_answers: tuple[str, ...] = ()
    skipped: str = ""
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What the engine reports of the I updates of a step. `metrics` holds scalars such as loss,
    grad_norm, entropy, clip shares and the sampler/trainer log-prob gap."""

    updates: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StepResult:
    """Everything one training step produced, as the run directory records it."""

    step: int
    groups: tuple[Group, ...]
    advantages: np.ndarray  # (N,) float64, one a rollout, groups in order
    teacher_rollouts: Mapping[str, tuple[TeacherRollout, ...]]
    reformulations: tuple[Reformulation, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    teacher_failures: tuple[TeacherFailure, ...] = ()
