"""What a step reports: the curves of method section 10 that can be read off one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo.algorithm.buffer import BufferEntry, BufferUpdate, PromptReplayBuffer
from zppo.algorithm.zone import is_hard
from zppo.types import (
    Group,
    GroupKind,
    GroupOutcome,
    Reformulation,
    RolloutStatus,
    TeacherRollout,
    UpdateStats,
)


def step_metrics(
    groups: Sequence[Group],
    advantages: np.ndarray,
    teacher_rollouts: Mapping[str, Sequence[TeacherRollout]],
    built: Sequence[Reformulation],
    chosen: Sequence[Reformulation],
    stats: UpdateStats,
    buffer: PromptReplayBuffer,
    changes: BufferUpdate | None,
) -> dict[str, Any]:
    """Scalars by `section/name`, and small tables for the buffer's make-up."""
    return (
        _accuracy(groups)
        | _composition(groups)
        | _rollouts(groups, advantages)
        | {"zone/hard": _hard(groups, buffer.threshold)}
        | _reformulations(built, chosen)
        | _teacher(teacher_rollouts)
        | _buffer(buffer, changes)
        | {f"update/{k}": v for k, v in stats.metrics.items()}
        | {"update/count": stats.updates}
    )


def _accuracy(groups: Sequence[Group]) -> dict[str, float]:
    """Mean reward by kind of prompt, the student's own rollouts only; for plain groups also by
    origin (new or replayed)."""
    metrics: dict[str, float] = {}
    for kind in GroupKind:
        of_kind = [g for g in groups if g.kind is kind]
        if of_kind:
            metrics[f"accuracy/{kind}"] = _own_accuracy(of_kind)
    for name, replayed in (("new", False), ("replayed", True)):
        some = [g for g in groups if g.kind is GroupKind.PLAIN and g.replayed is replayed]
        if some:
            metrics[f"accuracy/plain_{name}"] = _own_accuracy(some)
    return metrics


def _own_accuracy(groups: Sequence[Group]) -> float:
    """An injected response stands in the place of a wrong one, and counts as that."""
    return float(np.mean([r.reward * (not r.injected) for g in groups for r in g.rollouts]))


def _composition(groups: Sequence[Group]) -> dict[str, float]:
    """Groups by kind, and by outcome within each kind; `trivial` is the share without gradient."""
    metrics: dict[str, float] = {"groups/total": len(groups)}
    for kind in GroupKind:
        outcomes = Counter(g.outcome for g in groups if g.kind is kind)
        if total := outcomes.total():
            metrics[f"groups/{kind}"] = total
            for outcome in GroupOutcome:
                metrics[f"groups/{kind}/{outcome}"] = outcomes[outcome]
    mixed = sum(g.outcome is GroupOutcome.MIXED for g in groups)
    return metrics | {"groups/trivial_share": 1.0 - mixed / len(groups)}


def _hard(groups: Sequence[Group], tau: float) -> int:
    """Plain groups below `tau`; the step's other plain groups are its easy questions."""
    return sum(g.kind is GroupKind.PLAIN and is_hard(_own_accuracy([g]), tau) for g in groups)


def _rollouts(groups: Sequence[Group], advantages: np.ndarray) -> dict[str, float]:
    rollouts = [r for g in groups for r in g.rollouts]
    lengths = [len(r.response.token_ids) for r in rollouts]
    own = [
        r.response.logprobs
        for g in groups
        for r in g.rollouts
        if g.kind is GroupKind.PLAIN and not r.injected and r.response.logprobs is not None
    ]
    statuses = Counter(r.status for r in rollouts)
    metrics = {
        "rollouts/total": len(rollouts),
        "rollouts/positive_advantage_share": float(np.mean(advantages > 0)),
        "rollouts/unfinished_share": float(np.mean([not r.response.finished for r in rollouts])),
        "tokens/response_mean": float(np.mean(lengths)),
        "tokens/response_max": max(lengths),
        "tokens/sampled": sum(lengths),
    }
    if own:
        # The mean of -log p over sampled tokens estimates the policy's entropy per token without
        # bias where nothing truncates the distribution, and costs nothing.
        metrics["policy/entropy"] = float(-np.concatenate(own).mean())
    return metrics | {f"status/{status}": statuses[status] for status in RolloutStatus}


def _reformulations(
    built: Sequence[Reformulation], chosen: Sequence[Reformulation]
) -> dict[str, Any]:
    skipped = Counter(r.skipped for r in built if r.prompt is None)
    metrics: dict[str, Any] = {
        "zone/reformulated": len(chosen),
        "zone/skipped": skipped.total(),
    }
    metrics |= {"zone/skipped_reasons": dict(skipped)} if skipped else {}
    hints = Counter(reason for r in built if r.kind is GroupKind.HINT for reason in r.refused)
    metrics |= {f"zone/hint_refused/{reason}": n for reason, n in hints.items()}
    refused = Counter(reason for r in built for reason in r.refused) - hints
    traces = refused.total() + sum(len(r.candidates) for r in built)
    if traces:
        # Traces that compression lost, out of all that a candidate block was to show.
        metrics["zone/compress_refused"] = refused.total()
        metrics["zone/compress_refused_share"] = refused.total() / traces
        metrics |= {f"zone/compress_refused/{reason}": n for reason, n in refused.items()}
    return metrics


def _teacher(teacher_rollouts: Mapping[str, Sequence[TeacherRollout]]) -> dict[str, float]:
    if not teacher_rollouts:
        return {}
    correct = [[t.correct for t in ts] for ts in teacher_rollouts.values()]
    flat = [c for cs in correct for c in cs]
    # A later teacher is only asked what those before it left unsolved.
    later = sum(any(t.correct and t.turn for t in ts) for ts in teacher_rollouts.values())
    return ({"teacher/solved_by_later": later} if later else {}) | {
        "teacher/questions": len(correct),
        "teacher/solved_share": float(np.mean([any(cs) for cs in correct])),
        "teacher/accuracy": float(np.mean(flat)) if flat else 0.0,
        "teacher/unanswered": sum(not cs for cs in correct),
    }


def _buffer(buffer: PromptReplayBuffer, changes: BufferUpdate | None) -> dict[str, Any]:
    if changes is None:
        return {}
    entries = {**{e.question.id: e for e in buffer.entries}, **changes.left}
    admitted = [entries[i] for i in changes.admitted]
    graduated = [changes.left[i] for i in changes.graduated]
    evicted = [changes.left[i] for i in changes.evicted]
    return {
        "buffer/size": len(buffer),
        "buffer/admitted": len(admitted),
        "buffer/graduated": len(graduated),
        "buffer/evicted": len(evicted),
        "buffer/composition": {f"{k:.3f}": v for k, v in buffer.composition().items()},
        "buffer/visits": _by_visits(buffer.entries),
        "buffer/admitted_from": _by_accuracy(admitted),
        "buffer/graduated_from": _by_accuracy(graduated),
        "buffer/graduated_visits": _by_visits(graduated),
        "buffer/evicted_from": _by_accuracy(evicted),
        "buffer/evicted_visits": _by_visits(evicted),
    }


def _by_accuracy(entries: Iterable[BufferEntry]) -> dict[str, int]:
    return _counts(f"{e.accuracy_at_admission:.3f}" for e in entries)


def _by_visits(entries: Iterable[BufferEntry]) -> dict[str, int]:
    return _counts(str(e.visits) for e in entries)


def _counts(keys: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(keys).items()))
