"""Step 4 of Algorithm 1: from a hard question to its BCQ, NCQ, Hint or Prefix prompt.

Text-level work only. A prompt that cannot be built is a `Reformulation` with the reason in
`skipped`, so that nothing disappears from the logs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from zppo.algorithm.checked import Refusal
from zppo.algorithm.compress import Compressed, Trace, compress
from zppo.algorithm.hints import write_hints
from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.student.base import Student
from zppo.teacher.base import Teacher
from zppo.types import (
    Candidate,
    Group,
    GroupKind,
    Prompt,
    Question,
    Reformulation,
    Rollout,
    TeacherRollout,
)

if TYPE_CHECKING:
    from zppo.algorithm.step import StepParts


def question_rng(seed: int, step: int, question_id: str, purpose: str) -> np.random.Generator:
    """Randomness of one decision about one question: the same in any order of events."""
    return np.random.default_rng(
        [seed, step, *(zlib.crc32(s.encode()) for s in (question_id, purpose))]
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one hard question will be turned into, before any teacher call for it."""

    group: Group
    wrong: tuple[Rollout, ...]
    right: tuple[TeacherRollout, ...]
    negative: Rollout | None  # of the BCQ
    positive: TeacherRollout | None  # of BCQ, Hint or Prefix

    @property
    def question(self) -> Question:
        return self.group.question


async def reformulate(
    kept: Sequence[Group],
    teacher_rollouts: Mapping[str, Sequence[TeacherRollout]],
    step: int,
    parts: StepParts,
) -> list[Reformulation]:
    """Reformulations of the questions of `kept` (their plain groups), in order, BCQ before NCQ.

    One batch of teacher calls: every trace that some prompt needs is compressed once.
    """
    config, method = parts.config, parts.method
    plans = [_plan(g, teacher_rollouts.get(g.question.id, ()), step, config) for g in kept]
    short: Compressed = await _compress(plans, step, parts) if method.bcq or method.ncq else {}
    hints = await _write_hints(plans, step, parts) if method.hint else {}
    built: list[Reformulation] = []
    for plan in plans:
        if method.bcq:
            built.append(_bcq(plan, short, step, config, parts.templates))
        if method.ncq:
            built.append(_ncq(plan, short, parts.templates))
        if method.hint:
            built.append(_hint(plan, hints, parts.templates))
        if method.prefix:
            built.append(_prefix(plan, config, parts.templates, parts.student))
    return [_within_context(r, parts.student, config) for r in built]


def _plan(group: Group, answers: Sequence[TeacherRollout], step: int, config: Config) -> _Plan:
    # A rollout that the engine failed to sample has no trace to show.
    wrong = tuple(r for r in group.rollouts if not r.correct and r.response.failure is None)
    right = tuple(t for t in answers if t.correct)
    rng = question_rng(config.seed, step, group.question.id, "candidates")
    return _Plan(
        group,
        wrong,
        right,
        negative=wrong[rng.integers(len(wrong))] if wrong else None,
        positive=right[rng.integers(len(right))] if right else None,
    )


# -- BCQ and NCQ --------------------------------------------------------------------------------


def _bcq(
    plan: _Plan,
    short: Compressed,
    step: int,
    config: Config,
    templates: Templates,
) -> Reformulation:
    question = plan.question
    if plan.positive is None or plan.negative is None:
        reason = "no correct teacher rollout" if plan.positive is None else "no wrong rollout"
        return Reformulation(question, GroupKind.BCQ, None, skipped=reason)
    pair = [
        (plan.positive.text, True, plan.positive.extracted),
        (plan.negative.response.text, False, plan.negative.extracted),
    ]
    candidates, refused = _split(question, pair, short)
    if refused:
        return Reformulation(
            question, GroupKind.BCQ, None, skipped="compression failed", refused=refused
        )
    # Neither place may tell which candidate is right.
    if question_rng(config.seed, step, question.id, "order").random() < 0.5:
        candidates = candidates[::-1]
    text = templates.bcq(question, [c.text for c in candidates])
    prompt = Prompt(question, GroupKind.BCQ, text)
    return Reformulation(question, GroupKind.BCQ, prompt, candidates)


def _ncq(plan: _Plan, short: Compressed, templates: Templates) -> Reformulation:
    question = plan.question
    if not plan.wrong:
        return Reformulation(question, GroupKind.NCQ, None, skipped="no wrong rollout")
    traces = [(r.response.text, False, r.extracted) for r in plan.wrong]
    candidates, refused = _split(question, traces, short)
    if not candidates:
        return Reformulation(
            question, GroupKind.NCQ, None, skipped="compression failed", refused=refused
        )
    answers = tuple(dict.fromkeys(r.extracted for r in plan.wrong if r.extracted))
    text = templates.ncq(question, answers, [c.text for c in candidates])
    prompt = Prompt(question, GroupKind.NCQ, text)
    return Reformulation(question, GroupKind.NCQ, prompt, candidates, answers, refused=refused)


async def _compress(plans: Sequence[_Plan], step: int, parts: StepParts) -> Compressed:
    """Every trace that a candidate block needs."""
    traces: list[Trace] = []
    for plan in plans:
        if parts.method.bcq and plan.positive and plan.negative:
            traces.append(Trace(plan.question, plan.positive.text, right=True))
            traces.append(Trace(plan.question, plan.negative.response.text, right=False))
        if parts.method.ncq:
            traces += [Trace(plan.question, r.response.text, right=False) for r in plan.wrong]
    seed = (parts.config.seed, step, 1)
    return await compress(
        traces, parts.config.algorithm, parts.student, parts.teacher, parts.templates, seed
    )


def _split(
    question: Question,
    traces: Sequence[tuple[str, bool, str | None]],
    short: Compressed,
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Candidates of the traces (text, correct, extracted) that could be compressed, and why the
    others could not."""
    candidates: list[Candidate] = []
    refused: list[str] = []
    for original, correct, extracted in traces:
        text = short[question.id, original]
        if isinstance(text, Refusal):
            refused.append(text.value)
        else:
            candidates.append(Candidate(text, original, correct, extracted))
    return tuple(candidates), tuple(refused)


# -- Hint and Prefix, the baselines -------------------------------------------------------------


def _hint(plan: _Plan, hints: Mapping[str, str | Refusal], templates: Templates) -> Reformulation:
    question = plan.question
    if plan.positive is None:
        return Reformulation(question, GroupKind.HINT, None, skipped="no correct teacher rollout")
    hint = hints[question.id]
    if isinstance(hint, Refusal):
        return Reformulation(
            question, GroupKind.HINT, None, skipped="no answer-free hint", refused=(hint.value,)
        )
    prompt = Prompt(question, GroupKind.HINT, templates.hint(question, hint))
    return Reformulation(question, GroupKind.HINT, prompt)


async def _write_hints(
    plans: Sequence[_Plan], step: int, parts: StepParts
) -> dict[str, str | Refusal]:
    traces = {p.question.id: (p.question, p.positive.text) for p in plans if p.positive}
    config, seed = parts.config.algorithm, (parts.config.seed, step, 2)
    return await write_hints(traces, config, parts.student, _teacher(parts), parts.templates, seed)


def _prefix(plan: _Plan, config: Config, templates: Templates, student: Student) -> Reformulation:
    question = plan.question
    if plan.positive is None:
        return Reformulation(question, GroupKind.PREFIX, None, skipped="no correct teacher rollout")
    ids = student.encode(plan.positive.text)
    forced = tuple(ids[: int(len(ids) * config.algorithm.prefix_fraction)])
    prompt = Prompt(question, GroupKind.PREFIX, templates.plain(question), forced)
    return Reformulation(question, GroupKind.PREFIX, prompt)


# -- shared -------------------------------------------------------------------------------------


def _within_context(r: Reformulation, student: Student, config: Config) -> Reformulation:
    """BCQ and NCQ prompts are bounded by the model's context and never truncated."""
    if r.prompt is None:
        return r
    room = student.context_limit - config.rollout.max_response_tokens
    if student.prompt_tokens(r.prompt) <= room:
        return r
    # One reason for all of them, so that it can be counted.
    return replace(r, prompt=None, skipped="prompt leaves no room for a response in the context")


def _teacher(parts: StepParts) -> Teacher:
    assert parts.teacher is not None, "config validation requires a teacher here"
    return parts.teacher
