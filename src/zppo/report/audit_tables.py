"""The audit as tables, with the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from zppo.report.audit import Audit, Groups, Matches, Window
from zppo.report.paper import figures
from zppo.report.tables import Table
from zppo.report.transfer import Transfer

_KIND_NAMES = {"plain": "plain", "bcq": "BCQ", "ncq": "NCQ", "hint": "hint", "prefix": "prefix"}


def tables(audits: Sequence[Audit]) -> list[Table]:
    """Every table of some audits; those of kinds that no run has are left out."""
    found = [_bcq(audits), _ncq(audits), *map(_over_training, audits)]
    last = [_groups(audits), _transfer(audits), _contrast(audits)]
    return [table for table in [*found, *last] if table is not None]


def as_json(audit: Audit) -> dict[str, Any]:
    """The counts of an audit, and the shares of its total."""
    return {
        "name": audit.name,
        "total": asdict(audit.total),
        "windows": [asdict(window) for window in audit.windows],
        "transfer": [asdict(row) for row in audit.transfer],
        "contrast": asdict(audit.contrast) if audit.contrast else None,
        "shares": {
            "bcq_right": _shares(audit.total.bcq_right),
            "bcq_wrong": _shares(audit.total.bcq_wrong),
            "ncq": _shares(audit.total.ncq),
        },
    }


def _bcq(audits: Sequence[Audit]) -> Table | None:
    rows = [_bcq_row(a.name, a.total) for a in audits if _of_kind(a.total, "bcq").groups]
    if not rows:
        return None
    for size, row in figures()["bcq_audit"].items():
        if size == "columns":
            continue
        right, wrong = ([str(s[0]), *(f"{x:.1f}" for x in s[1:])] for s in _halves(row))
        rows.append((f"paper, {size}", f"{row['acc']:.1f}", *right, *wrong))
    columns = ("run", "accuracy", "right", "= pos.", "= neg.", "other")
    return Table(
        "BCQ: what the boxed answer equals",
        (*columns, "wrong", "= pos.", "= neg.", "other"),
        tuple(rows),
        "Right and wrong are rollouts; the three columns after each are percent of them: the "
        "answer equals that of the right candidate, of the wrong candidate, of neither."
        + _undecided(audits),
    )


def _undecided(audits: Sequence[Audit]) -> str:
    count = sum(audit.total.undecided for audit in audits)
    return f" {count} comparisons hit the grader's limits and count as different." * bool(count)


def _halves(row: dict[str, Any]) -> tuple[list[float], list[float]]:
    return row["correct"], row["wrong"]


def _bcq_row(name: str, window: Window) -> tuple[str, ...]:
    right, wrong = window.bcq_right, window.bcq_wrong
    accuracy = _percent(right.total, right.total + wrong.total)
    return (name, accuracy, str(right.total), *_three(right), str(wrong.total), *_three(wrong))


def _ncq(audits: Sequence[Audit]) -> Table | None:
    rows = [_ncq_row(a.name, a.total) for a in audits if _of_kind(a.total, "ncq").groups]
    if not rows:
        return None
    for size, values in figures()["ncq_audit"].items():
        if size != "columns":
            n, negative, positive, other, accuracy = values
            shares = (f"{x:.1f}" for x in (negative, positive, other))
            rows.append((f"paper, {size}", f"{accuracy:.1f}", str(n), *shares, ""))
    return Table(
        "NCQ: what the boxed answer equals",
        (
            "run",
            "accuracy",
            "rollouts",
            "listed wrong",
            "teacher's",
            "neither",
            "no teacher answer",
        ),
        tuple(rows),
        "Percent of rollouts that repeat an answer listed as wrong, that give the answer of a "
        "right teacher rollout of the step (never shown), or neither. Without a "
        "teacher answer: percent of rollouts on questions that no teacher rollout solved.",
    )


def _ncq_row(name: str, window: Window) -> tuple[str, ...]:
    ncq = window.ncq
    shares = (_percent(n, ncq.total) for n in (ncq.negative, ncq.positive, ncq.other))
    accuracy = _percent(window.ncq_right.total, ncq.total)
    unsolved = _percent(window.ncq_unsolved, ncq.total)
    return (name, accuracy, str(ncq.total), *shares, unsolved)


def _over_training(audit: Audit) -> Table | None:
    if not (_of_kind(audit.total, "bcq").groups or _of_kind(audit.total, "ncq").groups):
        return None
    rows = tuple(_window_row(w) for w in audit.windows)
    columns = ("steps", "BCQ acc.", "right = pos.", "wrong = neg.", "wrong = neither")
    return Table(
        f"{audit.name}: over training",
        (*columns, "NCQ acc.", "listed wrong", "teacher's", "neither"),
        rows,
        "Percent. Right = pos.: of the right BCQ rollouts, those with the right candidate's "
        "answer; the others likewise.",
    )


def _window_row(window: Window) -> tuple[str, ...]:
    right, wrong, ncq = window.bcq_right, window.bcq_wrong, window.ncq
    return (
        f"{window.first}-{window.last}",
        _percent(right.total, right.total + wrong.total),
        _percent(right.positive, right.total),
        _percent(wrong.negative, wrong.total),
        _percent(wrong.other, wrong.total),
        _percent(window.ncq_right.total, ncq.total),
        *(_percent(n, ncq.total) for n in (ncq.negative, ncq.positive, ncq.other)),
    )


def _groups(audits: Sequence[Audit]) -> Table:
    rows = [
        _group_row(audit.name, kind, groups)
        for audit in audits
        for kind, groups in audit.total.kinds.items()
    ]
    columns = ("run", "prompts", "groups", "non-trivial", "accuracy")
    return Table(
        "Groups by kind of prompt",
        (*columns, "groups, all wrong", "accuracy, all wrong"),
        tuple(rows),
        "Non-trivial: percent of groups with right and wrong rollouts, which alone carry a "
        "gradient. The last two columns: groups whose question had no right plain rollout in the "
        "same step.",
        labels=2,
    )


def _group_row(name: str, kind: str, groups: Groups) -> tuple[str, ...]:
    return (
        name,
        _KIND_NAMES.get(kind, kind),
        str(groups.groups),
        _percent(groups.non_trivial, groups.groups),
        _percent(groups.right, groups.rollouts),
        str(groups.hard_groups),
        _percent(groups.hard_right, groups.hard_rollouts),
    )


def _transfer(audits: Sequence[Audit]) -> Table | None:
    rows = [_transfer_row(audit.name, row) for audit in audits for row in audit.transfer]
    if not rows:
        return None
    columns = ("run", "before", "got", "returns", "questions", "steps between")
    return Table(
        "Transfer: hard questions when they come back",
        (*columns, "accuracy before", "at return", "±", "solved"),
        tuple(rows),
        "Plain accuracy, percent, of questions that were hard at one visit, at their next one. "
        "Got: the reformulated prompts sampled for them at the first. ±: half the 95% interval of "
        "the accuracy at return, by question. Solved: percent no longer hard. Compare rows of one "
        "run with the same start; treated questions were chosen as the hardest.",
        labels=3,
    )


def _transfer_row(name: str, row: Transfer) -> tuple[str, ...]:
    treatment = "+".join(_KIND_NAMES.get(k, k) for k in row.treatment.split("+"))
    return (
        name,
        "all wrong" if row.all_wrong else "some right",
        treatment,
        str(row.returns),
        str(row.questions),
        f"{row.steps:.1f}",
        f"{100 * row.before:.1f}",
        f"{100 * row.after:.1f}",
        "" if row.margin is None else f"{100 * row.margin:.1f}",
        f"{100 * row.solved:.1f}",
    )


def _contrast(audits: Sequence[Audit]) -> Table | None:
    found = [(audit.name, audit.contrast) for audit in audits]
    rows = tuple(
        (
            name,
            str(c.steps),
            str(c.taken),
            str(c.others),
            f"{100 * c.difference:+.1f}",
            f"{100 * c.margin:.1f}",
        )
        for name, c in found
        if c is not None
    )
    if not rows:
        return None
    return Table(
        "Transfer: taken for reformulation against left out, by the draw of the pre-cap",
        ("run", "steps", "taken", "left out", "difference", "±"),
        rows,
        "Percentage points of plain accuracy at the next visit, between questions without a right "
        "rollout in the same step, some of which the pre-cap drew at random. ±: half the 95% "
        "interval. What the training does for all questions alike cancels out.",
    )


def _of_kind(window: Window, kind: str) -> Groups:
    return window.kinds.get(kind, Groups())


def _three(matches: Matches) -> tuple[str, ...]:
    counts = (matches.positive, matches.negative, matches.other)
    return tuple(_percent(n, matches.total) for n in counts)


def _shares(matches: Matches) -> dict[str, float] | None:
    if not matches.total:
        return None
    names = ("positive", "negative", "other")
    return {name: getattr(matches, name) / matches.total for name in names}


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"
