"""Step 4 of Algorithm 1: from a hard question to its BCQ, NCQ, Hint or Prefix prompt.

Text-level work only. A prompt that cannot be built is a `Reformulation` with the reason in
`skipped`, so that nothing disappears from the logs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zppo.algorithm.prompts import Templates, parse_hint, parse_summary
from zppo.config import Config
from zppo.rewards import extract_boxed, grade
from zppo.student.base import Student
from zppo.teacher.base import Teacher, TeacherRequest
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
    short = await _compress(plans, step, parts) if method.bcq or method.ncq else {}
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
    wrong = tuple(r for r in group.rollouts if not r.correct)
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
    short: Mapping[tuple[str, str], str | None],
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
    candidates = [
        Candidate(text, original, correct, extracted)
        for original, correct, extracted in pair
        if (text := short[question.id, original]) is not None
    ]
    if len(candidates) < 2:
        return Reformulation(question, GroupKind.BCQ, None, skipped="compression failed")
    # Neither place may tell which candidate is right.
    if question_rng(config.seed, step, question.id, "order").random() < 0.5:
        candidates.reverse()
    text = templates.bcq(question, [c.text for c in candidates])
    prompt = Prompt(question, GroupKind.BCQ, text)
    return Reformulation(question, GroupKind.BCQ, prompt, tuple(candidates))


def _ncq(
    plan: _Plan, short: Mapping[tuple[str, str], str | None], templates: Templates
) -> Reformulation:
    question = plan.question
    if not plan.wrong:
        return Reformulation(question, GroupKind.NCQ, None, skipped="no wrong rollout")
    candidates = tuple(
        Candidate(text, r.response.text, False, r.extracted)
        for r in plan.wrong
        if (text := short[question.id, r.response.text]) is not None
    )
    if not candidates:
        return Reformulation(question, GroupKind.NCQ, None, skipped="compression failed")
    answers = tuple(dict.fromkeys(r.extracted for r in plan.wrong if r.extracted))
    text = templates.ncq(question, answers, [c.text for c in candidates])
    prompt = Prompt(question, GroupKind.NCQ, text)
    return Reformulation(question, GroupKind.NCQ, prompt, candidates, answers)


async def _compress(
    plans: Sequence[_Plan], step: int, parts: StepParts
) -> dict[tuple[str, str], str | None]:
    """Compressed text of every trace that a candidate block needs, by (question id, trace)."""
    wanted: dict[tuple[str, str], Question] = {}
    wrong = {(p.question.id, r.response.text) for p in plans for r in p.wrong}
    for plan in plans:
        traces = [r.response.text for r in plan.wrong] if parts.method.ncq else []
        if parts.method.bcq and plan.positive and plan.negative:
            traces += [plan.positive.text, plan.negative.response.text]
        wanted.update({(plan.question.id, trace): plan.question for trace in traces})
    cap = parts.config.algorithm.candidate_max_tokens
    if parts.config.algorithm.compress == "none":
        return {key: _cut(key[1], cap, parts.student) or None for key in wanted}
    requests = [
        TeacherRequest("compress", question, parts.templates.compress(question, trace), trace, cap)
        for (_, trace), question in wanted.items()
    ]
    replies = await _teacher(parts).complete(requests, (parts.config.seed, step, 1))
    return {
        key: _accepted(reply, key[1], question if key in wrong else None, cap, parts.student)
        for (key, question), reply in zip(wanted.items(), replies, strict=True)
    }


def _accepted(
    reply: str | None, trace: str, failed: Question | None, cap: int, student: Student
) -> str | None:
    """The summary of a compression reply, None when there is none, when it is over the cap, or
    when it changed the trace's answer: a candidate must stay as right or wrong as it was.

    `failed` is the question that the trace got wrong, None for a right one. A wrong trace without
    a box must not come back with the gold answer in one: the teacher may know it.
    """
    summary = parse_summary(reply) if reply is not None else None
    if summary is None or len(student.encode(summary)) > cap:
        return None
    answer = extract_boxed(trace)
    if answer is not None:
        return summary if extract_boxed(summary) == answer else None
    if failed is not None and grade(summary, failed.answer, failed.kind, failed.options).correct:
        return None
    return summary


def _cut(text: str, cap: int, student: Student) -> str:
    return student.decode(student.encode(text)[:cap]).strip()


# -- Hint and Prefix, the baselines -------------------------------------------------------------


def _hint(plan: _Plan, hints: Mapping[str, str | None], templates: Templates) -> Reformulation:
    question = plan.question
    if plan.positive is None:
        return Reformulation(question, GroupKind.HINT, None, skipped="no correct teacher rollout")
    hint = hints[question.id]
    if hint is None:
        return Reformulation(question, GroupKind.HINT, None, skipped="no answer-free hint")
    prompt = Prompt(question, GroupKind.HINT, templates.hint(question, hint))
    return Reformulation(question, GroupKind.HINT, prompt)


async def _write_hints(
    plans: Sequence[_Plan], step: int, parts: StepParts
) -> dict[str, str | None]:
    cap = parts.config.algorithm.candidate_max_tokens
    asked = [(p.question, p.positive.text) for p in plans if p.positive]
    requests = [
        TeacherRequest("hint", question, parts.templates.write_hint(question, text), text, cap)
        for question, text in asked
    ]
    replies = await _teacher(parts).complete(requests, (parts.config.seed, step, 2))
    return {
        question.id: parse_hint(reply) if reply is not None else None
        for (question, _), reply in zip(asked, replies, strict=True)
    }


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
    if (length := student.prompt_tokens(r.prompt)) <= room:
        return r
    reason = f"prompt of {length} tokens leaves no room for a response in the context"
    return Reformulation(r.question, r.kind, None, r.candidates, r.wrong_answers, reason)


def _teacher(parts: StepParts) -> Teacher:
    assert parts.teacher is not None, "config validation requires a teacher here"
    return parts.teacher
