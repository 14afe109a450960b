"""Benchmarks whose own judge decides all: CharXiv, MM-Vet, HLE, MultiChallenge.

The judges' instructions are ours, with the structure of the official ones; the readers take the
official form of the replies, so that the official text can stand in for ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zppo.evaluation.benchmark import Item
from zppo.evaluation.charxiv import REASONING, RUBRICS
from zppo.evaluation.scorers.base import (
    JudgeReply,
    JudgeTask,
    Scored,
    Summary,
    Verdict,
    after_thinking,
    said_something,
    summarize_mean,
)
from zppo.evaluation.scorers.replies import decimal, hle, score_01, verdict_word
from zppo.rewards.grader import Grade

MakeTask = Callable[[Item, str], JudgeTask]


@dataclass(frozen=True, slots=True)
class Judged:
    """Every response goes to the judge, what follows the thinking of it. One that was cut in its
    thinking is a 0."""

    name: str
    make_task: MakeTask
    breakdown: str | None = None
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "required"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`."""
        return Verdict(0.0, grade.status, grade.extracted, open=said_something(response, grade))

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """See `Scorer.task`."""
        return self.make_task(item, after_thinking(response))

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`. CharXiv's number is the mean of its two halves."""
        return (
            _charxiv(scored) if self.name == "charxiv" else summarize_mean(scored, self.breakdown)
        )


def _task(
    template: str, read: Callable[[str], JudgeReply | None], more: Mapping[str, Any] | None = None
) -> MakeTask:
    def make(item: Item, said: str) -> JudgeTask:
        return JudgeTask(template, {"item": item, "response": said, **(more or {})}, read)

    return make


def _charxiv_task(item: Item, said: str) -> JudgeTask:
    """One of eleven rubrics: four kinds of reasoning answer, seven of descriptive questions."""
    number = int(item.meta["rubric"])
    reasoning = item.meta["kind"] == "reasoning"
    rubric = REASONING[number] if reasoning else RUBRICS[number]
    values = {"item": item, "response": said, "rubric": rubric, "asked": item.meta["asked"]}
    return JudgeTask(f"charxiv_{item.meta['kind']}", values, score_01)


def _charxiv(scored: Sequence[Scored]) -> Summary:
    halves = {
        kind: summarize_mean([one for one in scored if one.item.meta["kind"] == kind])
        for kind in ("reasoning", "descriptive")
    }
    parts = {kind: half.score for kind, half in halves.items() if half.score is not None}
    for kind, names in (("reasoning", REASONING), ("descriptive", RUBRICS)):
        for rubric in dict.fromkeys(names.values()):
            some = [
                one
                for one in scored
                if one.item.meta["kind"] == kind and names[int(one.item.meta["rubric"])] == rubric
            ]
            score = summarize_mean(some).score
            if score is not None:
                parts[f"{kind}/{rubric}"] = score
    found = [half.score for half in halves.values() if half.score is not None]
    total = sum(half.n for half in halves.values())
    if len(found) < 2:  # half of it is not the benchmark's number
        return Summary(None, total, None, parts)
    weighted = _weights(scored, halves)
    error = summarize_mean(weighted).stderr
    return Summary(sum(found) / 2, total, error, parts)


def _weights(scored: Sequence[Scored], halves: Mapping[str, Summary]) -> list[Scored]:
    """Scores stretched so that their plain mean is that of the two halves, for the error."""
    total = sum(half.n for half in halves.values())
    factor = {kind: total / (2 * half.n) for kind, half in halves.items()}
    return [
        replace(
            one,
            verdict=replace(
                one.verdict, score=_centred(one, halves) * factor[one.item.meta["kind"]]
            ),
        )
        for one in scored
        if one.verdict.score is not None
    ]


def _centred(one: Scored, halves: Mapping[str, Summary]) -> float:
    return (one.verdict.score or 0.0) - (halves[one.item.meta["kind"]].score or 0.0)


_REASONING = frozenset({"reasoning"})


def _multichallenge_task(item: Item, said: str) -> JudgeTask:
    """The judge answers the target question about the last reply; the pass criterion says which
    answer is wanted, and is not shown to it."""
    wanted = item.question.answer.strip().lower()
    words = {"yes": float(wanted == "yes"), "no": float(wanted == "no")}
    values = {"item": item, "response": said, "target": item.meta["target_question"]}
    return JudgeTask("multichallenge", values, verdict_word(words, "verdict", _REASONING))


MAKERS: dict[str, MakeTask] = {
    "charxiv": _charxiv_task,
    "mmvet": _task("mmvet", decimal),
    "hle": _task("hle", hle),
    "multichallenge": _multichallenge_task,
}
