"""The audit of reformulated prompts: does the student verify the candidates, or copy one?

The candidate-match audit is that of method section 10 and of the paper's tables: each BCQ rollout's
boxed answer is held against the positive and the negative candidate, each NCQ rollout's against the
listed wrong answers and the teacher's answer, which was never shown. Beside it stand what the paper
does not report: what BCQ reaches where every plain rollout failed, how many reformulated groups
carry a gradient, and (`transfer.py`) what is left of it when the question comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from zppo.errors import RunError
from zppo.report.matching import Matched, Matcher, Pair
from zppo.report.reading import GroupRow, RolloutRow, Run, StepLog
from zppo.report.transfer import Contrast, Return, Transfer, contrast, follow, summarize
from zppo.types import GroupKind


@dataclass(frozen=True, slots=True)
class Matches:
    """Rollouts by what their boxed answer equals. `positive` is the right candidate of a BCQ or
    the teacher's answer to an NCQ question, `negative` the wrong candidate or a listed wrong
    answer; an answer that equals neither, or no answer, is `other`."""

    positive: int = 0
    negative: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.positive + self.negative + self.other

    def __add__(self, more: Matches) -> Matches:
        return _added(self, more)


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of one kind: how many carry a gradient (neither all right nor all wrong), and how
    many rollouts are right; `hard_*` are those whose question had no right plain rollout in the
    same step."""

    groups: int = 0
    non_trivial: int = 0
    rollouts: int = 0
    right: int = 0
    hard_groups: int = 0
    hard_rollouts: int = 0
    hard_right: int = 0

    def __add__(self, more: Groups) -> Groups:
        return _added(self, more)


#: Steps of pooled runs are set apart by this, so that no contrast is drawn between runs.
_APART = 10**9

Counts = TypeVar("Counts", Matches, Groups)


@dataclass(frozen=True, slots=True)
class Window:
    """The audit of the steps `first` to `last`.

    `ncq_unsolved` counts NCQ rollouts whose question no teacher rollout solved, so that there is
    no answer to match; `undecided` counts comparisons that hit a limit of the grader.
    """

    first: int
    last: int
    bcq_right: Matches = Matches()
    bcq_wrong: Matches = Matches()
    ncq_right: Matches = Matches()
    ncq_wrong: Matches = Matches()
    ncq_unsolved: int = 0
    undecided: int = 0
    kinds: Mapping[str, Groups] = field(default_factory=dict[str, Groups])

    @property
    def ncq(self) -> Matches:
        return self.ncq_right + self.ncq_wrong


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit of a run: over all of its logged steps and by windows of steps; `returns` are its
    hard questions that came back, of which `tau` tells when they are solved."""

    name: str
    total: Window
    windows: tuple[Window, ...]
    returns: tuple[Return, ...]
    tau: float

    @property
    def transfer(self) -> tuple[Transfer, ...]:
        return summarize(self.returns, self.tau)

    @property
    def contrast(self) -> Contrast | None:
        return contrast(self.returns)


def audit_run(
    run: Run,
    window: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """Read every rollout log of `run`, one at a time.

    `window` is a number of steps; by default the run is cut into at most ten windows. Raises
    `RunError` when the run has no rollout logs (`run.save_rollouts=false`) or one is damaged.
    """
    steps = run.rollout_steps()
    if not steps:
        raise RunError(
            f"`{run.root}` has no rollout logs to audit; they are written with "
            "run.save_rollouts=true."
        )
    found: list[Window] = []
    returns: list[Return] = []
    visits = follow(run.config.algorithm.hard_threshold)
    with Matcher(run.config.rewards) as matcher:
        for done, step in enumerate(steps, start=1):
            log = run.rollouts(step)
            found.append(audit_step(log, matcher))
            returns += visits(log)
            progress(done, len(steps))
    windows = _windows(found, window or -(-steps[-1] // 10))
    tau = run.config.algorithm.hard_threshold
    return Audit(run.name, merge(found), tuple(windows), tuple(returns), tau)


def pool(name: str, audits: Sequence[Audit]) -> Audit:
    """Audits of runs that differ in their seed as one: counts are added up, windows of the same
    steps merged. A question is another one in every run."""
    starts = sorted({w.first for audit in audits for w in audit.windows})
    windows = (merge([w for a in audits for w in a.windows if w.first == s]) for s in starts)
    returns = (
        replace(one, question=f"{i}:{one.question}", step=one.step + i * _APART)
        for i, audit in enumerate(audits)
        for one in audit.returns
    )
    total = merge([audit.total for audit in audits])
    return Audit(name, total, tuple(windows), tuple(returns), audits[0].tau)


def audit_step(log: StepLog, matcher: Matcher) -> Window:
    """The audit of one step."""
    plain = {g.question: g for g in log.groups if g.kind == GroupKind.PLAIN}
    cases = [case for group in log.groups for case in _cases(group, log)]
    matched = matcher.match(pair for case in cases for pair in case.pairs)
    tallies: dict[tuple[str, bool], Matches] = {}
    for case in cases:
        key = (case.kind, case.rollout.correct)
        tallies[key] = tallies.get(key, Matches()) + case.tally(matched)
    kinds: dict[str, Groups] = {}
    for group in log.groups:
        mine = _groups(group, plain.get(group.question))
        kinds[group.kind] = kinds.get(group.kind, Groups()) + mine
    return Window(
        log.step,
        log.step,
        tallies.get((GroupKind.BCQ, True), Matches()),
        tallies.get((GroupKind.BCQ, False), Matches()),
        tallies.get((GroupKind.NCQ, True), Matches()),
        tallies.get((GroupKind.NCQ, False), Matches()),
        sum(case.kind == GroupKind.NCQ and not case.positive for case in cases),
        matched.undecided,
        kinds,
    )


def merge(windows: Sequence[Window]) -> Window:
    """Windows as one."""
    kinds: dict[str, Groups] = {}
    for window in windows:
        for kind, groups in window.kinds.items():
            kinds[kind] = kinds.get(kind, Groups()) + groups
    return Window(
        min(w.first for w in windows),
        max(w.last for w in windows),
        _sum(w.bcq_right for w in windows),
        _sum(w.bcq_wrong for w in windows),
        _sum(w.ncq_right for w in windows),
        _sum(w.ncq_wrong for w in windows),
        sum(w.ncq_unsolved for w in windows),
        sum(w.undecided for w in windows),
        kinds,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """A rollout and the answers it is held against."""

    kind: str
    rollout: RolloutRow
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    #: Which side counts when an answer equals one of each: the one that the audit is after.
    negative_first: bool

    @property
    def pairs(self) -> list[Pair]:
        answer = self.rollout.extracted
        return [] if answer is None else [(answer, o) for o in (*self.positive, *self.negative)]

    def tally(self, matched: Matched) -> Matches:
        answer = self.rollout.extracted or ""
        positive = any((answer, other) in matched.equal for other in self.positive)
        negative = any((answer, other) in matched.equal for other in self.negative)
        if negative and (self.negative_first or not positive):
            return Matches(negative=1)
        return Matches(positive=1) if positive else Matches(other=1)


def _cases(group: GroupRow, log: StepLog) -> list[_Case]:
    if group.kind == GroupKind.BCQ:
        positive = tuple(c.extracted for c in group.candidates if c.correct and c.extracted)
        negative = tuple(c.extracted for c in group.candidates if not c.correct and c.extracted)
    elif group.kind == GroupKind.NCQ:
        answers = (log.teacher or {}).get(group.question, ())
        positive = tuple(dict.fromkeys(t.extracted for t in answers if t.correct and t.extracted))
        negative = group.wrong_answers
    else:
        return []
    first = group.kind == GroupKind.NCQ
    return [_Case(group.kind, r, positive, negative, first) for r in group.rollouts]


def _groups(group: GroupRow, plain: GroupRow | None) -> Groups:
    right = sum(r.correct for r in group.rollouts)
    size = len(group.rollouts)
    hard = plain is not None and not any(r.correct and not r.injected for r in plain.rollouts)
    return Groups(
        groups=1,
        non_trivial=int(0 < right < size),
        rollouts=size,
        right=right,
        hard_groups=int(hard),
        hard_rollouts=size * hard,
        hard_right=right * hard,
    )


def _windows(found: Sequence[Window], size: int) -> Iterable[Window]:
    chunks: dict[int, list[Window]] = {}
    for window in found:
        chunks.setdefault((window.first - 1) // size, []).append(window)
    return map(merge, chunks.values())


def _sum(matches: Iterable[Matches]) -> Matches:
    return sum(matches, Matches())


def _added(a: Counts, b: Counts) -> Counts:
    names = [f.name for f in fields(a)]
    return type(a)(**{name: getattr(a, name) + getattr(b, name) for name in names})
