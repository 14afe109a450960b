"""The second half of an evaluation: from responses to verdicts. It can be repeated at will."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zppo.evaluation.benchmark import Item
from zppo.evaluation.judging import Judge
from zppo.evaluation.models import Answer
from zppo.evaluation.predict import Key
from zppo.evaluation.scorers.base import JudgeTask, Scored, Scorer, Verdict
from zppo.rewards.grader import Grader
from zppo.types import Response, RolloutStatus


@dataclass(frozen=True, slots=True)
class Scores:
    """All verdicts of a benchmark, and what they rest on.

    `errors` has a line for every response that has none: (id, sample, reason). They are not in
    the score. `missing` counts responses that were never asked for.
    """

    scored: list[Scored]
    errors: list[tuple[str, int, str]]
    missing: int
    judged: Counter[str]


async def score(
    items: Sequence[Item],
    predictions: Mapping[Key, Answer],
    samples: int,
    scorer: Scorer,
    grader: Grader,
    judge: Judge | None,
    judge_file: Path,
) -> Scores:
    """The verdict on every response: the rule, then the judge where the scorer leaves it open."""
    wanted = [(item, k) for item in items for k in range(samples)]
    found = [
        (item, k, predictions[item.id, k]) for item, k in wanted if (item.id, k) in predictions
    ]
    errors = [(item.id, k, answer.error) for item, k, answer in found if answer.error]
    given = [(item, k, answer) for item, k, answer in found if not answer.error]
    responses = [_response(answer) for _, _, answer in given]
    grades = await grader.grade(
        [(item.question, r) for (item, _, _), r in zip(given, responses, strict=True)]
    )
    verdicts = await asyncio.to_thread(
        lambda: [
            scorer.rule(item, answer.text or "", grade)
            for (item, _, answer), grade in zip(given, grades, strict=True)
        ]
    )
    judged: Counter[str] = Counter()
    if judge is not None and scorer.judge != "none":
        verdicts = await _judge(scorer, judge, given, verdicts, judge_file, judged)
    scored: list[Scored] = []
    for (item, k, _), verdict in zip(given, verdicts, strict=True):
        if verdict.score is None:
            errors.append((item.id, k, verdict.status.value))
        else:
            scored.append(Scored(item, k, verdict))
    return Scores(scored, errors, len(wanted) - len(found), judged)


async def _judge(
    scorer: Scorer,
    judge: Judge,
    given: Sequence[tuple[Item, int, Answer]],
    verdicts: list[Verdict],
    file: Path,
    judged: Counter[str],
) -> list[Verdict]:
    open_ones = [i for i, verdict in enumerate(verdicts) if verdict.open]
    tasks = [scorer.task(given[i][0], given[i][2].text or "", verdicts[i]) for i in open_ones]
    replies = await judge.replies(tasks, file)
    result = list(verdicts)
    for i, task, reply in zip(open_ones, tasks, replies, strict=True):
        result[i] = read(task, reply, verdicts[i])
        judged["asked"] += 1
        judged[result[i].status.value] += 1
        judged["overturned"] += result[i].score != verdicts[i].score
    return result


def read(task: JudgeTask, reply: str | None, before: Verdict) -> Verdict:
    """The verdict of a judge's reply. No reply is no verdict; nonsense is a 0 that is counted."""
    if reply is None:
        return replace(before, score=None, status=RolloutStatus.JUDGE_ERROR, by="judge")
    said = task.read(without_thinking(reply))
    if said is None:
        return replace(before, score=0.0, status=RolloutStatus.JUDGE_MALFORMED, by="judge")
    extracted = said.extracted if said.extracted is not None else before.extracted
    return Verdict(said.score, RolloutStatus.GRADED, extracted, "judge")


def without_thinking(reply: str) -> str:
    """A judge's reply after its own thinking. With more than one closing tag it is not known where
    the thinking ends, so the reply stays whole, and is malformed."""
    if reply.count("</think>") != 1:
        return reply
    thinking, _, rest = reply.partition("</think>")
    return reply if "<think>" in thinking.lstrip().removeprefix("<think>") else rest


def _response(answer: Answer) -> Response:
    """A prediction in the grader's terms. Where it is not known whether a response ended by
    itself, it is taken to have."""
    return Response(np.zeros(0, np.int64), None, answer.text or "", answer.finished is not False)
