"""What every scorer gives and gets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from zppo.evaluation.benchmark import Item
from zppo.rewards.grader import Grade
from zppo.types import RolloutStatus

#: How a verdict came about: the statuses of training, and an official metric that failed.
Status = RolloutStatus


@dataclass(frozen=True, slots=True)
class Verdict:
    """The score of one response in [0, 1]; None where there is no verdict, which is not a 0.

    `open` marks a verdict of the rule that a judge may replace. `parts` are named sub-scores.
    """

    score: float | None
    status: RolloutStatus = RolloutStatus.GRADED
    extracted: str | None = None
    by: Literal["rule", "judge", "metric"] = "rule"
    open: bool = False
    parts: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Scored:
    """A response's verdict with its item, for the aggregation."""

    item: Item
    sample: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """What a judge is asked: the template and its variables. `read` is strict: a score, or None
    for a reply that is not exactly what was asked for."""

    template: str
    values: Mapping[str, Any]
    read: Callable[[str], JudgeReply | None]


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a well-formed reply says."""

    score: float
    extracted: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The score of a benchmark in [0, 1]: the mean over `n` questions of the mean over samples.

    `stderr` is its standard error over independent clusters, None with fewer than two.
    """

    score: float | None
    n: int
    stderr: float | None
    parts: Mapping[str, float] = field(default_factory=dict[str, float])


class Scorer(Protocol):
    """Scores the responses of a kind of benchmark. Goes up in `version` when a score could change.

    `judge` says whether an LLM judge has no part, decides what the rule leaves open, or decides
    all.
    """

    name: str
    version: int
    judge: Literal["none", "fallback", "required"]

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """The verdict without a judge. `grade` is that of the training rule on the last box."""
        ...

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """What to ask a judge where `verdict` is open."""
        ...

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """The benchmark's number from all responses that have a verdict."""
        ...


def mean_by_question(scored: Sequence[Scored]) -> dict[str, float]:
    """Mean score by question over its samples (pass@1), questions in order."""
    by_item: dict[str, list[float]] = defaultdict(list)
    for one in scored:
        if one.verdict.score is not None:
            by_item[one.item.id].append(one.verdict.score)
    return {id: sum(scores) / len(scores) for id, scores in by_item.items()}


def summarize_mean(scored: Sequence[Scored], breakdown: str | None = None) -> Summary:
    """pass@1 over questions, its clustered standard error, and the mean of every part."""
    means = mean_by_question(scored)
    if not means:
        return Summary(None, 0, None)
    items = {one.item.id: one.item for one in scored}
    clusters = [items[id].cluster for id in means]
    score, error = clustered(list(means.values()), clusters)
    parts: dict[str, list[float]] = defaultdict(list)
    if breakdown is not None:
        for id, value in means.items():
            for name in _names(items[id].meta.get(breakdown.strip("_"))):
                parts[name].append(value)
    return Summary(
        score, len(means), error, {name: sum(v) / len(v) for name, v in sorted(parts.items())}
    )


def _names(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def clustered(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float | None]:
    """Mean of `values` and its standard error with clusters that are not independent inside.

    With clusters of one it is the sample standard deviation over sqrt(n).
    """
    mean = sum(values) / len(values)
    residuals: dict[str, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] += value - mean
    count = len(residuals)
    if count < 2:
        return mean, None
    squares = sum(r * r for r in residuals.values()) * count / (count - 1)
    return mean, squares**0.5 / len(values)


_THINKING = re.compile(r"^.*</think>", re.DOTALL)


def after_thinking(response: str) -> str:
    """What a response says after its thinking; all of it where nothing follows, or where it has
    no closing tag."""
    return _THINKING.sub("", response).strip() or response.strip()


def said_something(response: str, grade: Grade) -> bool:
    """Whether there is anything to judge: a response that was cut in its thinking has said nothing,
    one that was cut in its answer has."""
    thinking, closed, said = response.rpartition("</think>")
    if grade.status is RolloutStatus.TRUNCATED and not (closed and said.strip()):
        return False
    return bool(thinking.strip() or said.strip())


def shown_to_judge(response: str, grade_extracted: str | None) -> str:
    """What a comparator sees: the boxed answer, the whole trajectory where nothing is boxed."""
    return grade_extracted if grade_extracted is not None else response
