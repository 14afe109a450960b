"""The judge of free-form answers (method section 6): a comparator asked what the rule leaves open.

The rule grades first. A free-form answer that it does not accept goes to the judge: the content of
the box, or the whole response where there is no box. The judge is any `Teacher`; its reply counts
only if it is the JSON object asked for and nothing else, so text in a response that talks to the
judge has nothing to hold on to: the worst it can do is to be graded wrong.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zppo.algorithm.blocks import parse_verdict
from zppo.algorithm.prompts import Templates
from zppo.errors import TeacherError, ZppoError
from zppo.rewards.grader import Grade, Grader, close_grader
from zppo.teacher.base import ReportsFailures, Teacher, TeacherRequest, close_teacher
from zppo.types import Question, Response, RolloutStatus

_log = logging.getLogger(__name__)

_CACHE_ENTRIES = 100_000
_MAX_RESPONSE_CHARS = 32_000  # the end of it, where the answer is
_ENOUGH_CALLS = 20  # before a share of failed calls says anything

#: What the reply has to be. Where a server makes the model keep to it, small models can judge too.
VERDICT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["correct", "wrong"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
#: Verdict by status of a reply. A malformed one is wrong; a failed call has no reply.
_VERDICTS = {"correct": (True, RolloutStatus.GRADED), "wrong": (False, RolloutStatus.GRADED)}
_MALFORMED = (False, RolloutStatus.JUDGE_MALFORMED)
_FAILED = (False, RolloutStatus.JUDGE_ERROR)
_BY_NAME = {**_VERDICTS, "malformed": _MALFORMED}
_NAMES = {verdict: name for name, verdict in _BY_NAME.items()}
Verdict = tuple[bool, RolloutStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """`short`: also ask about short answers the rule refuses. `check_share` of the answers that
    the rule decides are judged too, to see how often the two disagree; the rule's verdict stays.
    `schema`: ask for a reply that keeps to `VERDICT_SCHEMA`; it is read as strictly either way.
    """

    max_tokens: int = 512
    short: bool = False
    check_share: float = 0.02
    max_failure_share: float = 0.5
    schema: bool = True


class JudgeGrader:
    """Implements `Grader` and `Remembers`: `rule` first, `judge` for what it leaves open.

    How many calls run at once is the judge's own limit. Verdicts are kept for as long as the grader
    lives, by the content of the prompt; beyond `_CACHE_ENTRIES` the oldest leave. Raises
    `TeacherError` when more than `max_failure_share` of the calls since the last `drain_metrics`
    gave no verdict: rewards would be made of nothing.
    """

    def __init__(
        self,
        rule: Grader,
        judge: Teacher,
        templates: Templates,
        options: JudgeOptions | None = None,
        seed: int = 0,
    ) -> None:
        self._rule, self._judge, self._templates = rule, judge, templates
        self._options = options or JudgeOptions()
        self._seed = seed
        self._cache: dict[str, Verdict] = {}
        self._learnt: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    async def grade(self, items: Sequence[tuple[Question, Response]]) -> list[Grade]:
        """See `Grader.grade`."""
        grades = await self._rule.grade(items)
        asked: list[int] = []
        requests: list[TeacherRequest] = []
        for index, ((question, response), found) in enumerate(zip(items, grades, strict=True)):
            if self._is_open(question, found) or self._is_checked(question, found):
                asked.append(index)
                requests.append(self._request(question, response, found))
        verdicts = await self._verdicts(requests)
        for index, (correct, status) in zip(asked, verdicts, strict=True):
            question, found = items[index][0], grades[index]
            if self._is_open(question, found):
                grades[index] = Grade(correct, status, found.extracted)
            elif status is RolloutStatus.GRADED:
                self._counts["checked"] += 1
                self._counts["disagreed"] += correct is not found.correct
        return grades

    def drain_metrics(self) -> dict[str, float]:
        """What was asked since the last call, as `judge/...`."""
        counts, self._counts = self._counts, Counter[str]()
        names = ("calls", "cache_hits", "malformed", "errors", "checked")
        metrics = {f"judge/{name}": float(counts[name]) for name in names}
        metrics |= {f"judge/{k}": float(n) for k, n in counts.items() if k.startswith("failed/")}
        if counts["checked"]:
            metrics["judge/disagreement"] = counts["disagreed"] / counts["checked"]
        return metrics

    def drain_verdicts(self) -> dict[str, str]:
        """See `Remembers`: `correct`, `wrong` or `malformed` by the SHA-256 of the prompt."""
        learnt, self._learnt = self._learnt, {}
        return learnt

    def recall(self, verdicts: Mapping[str, str]) -> None:
        """See `Remembers`."""
        for key, name in verdicts.items():
            if name in _BY_NAME:
                self._keep(key, _BY_NAME[name])

    async def aclose(self) -> None:
        """Let go of the judge's connections and the rule's processes; the grader stays usable."""
        await close_teacher(self._judge)
        await close_grader(self._rule)

    def _is_open(self, question: Question, found: Grade) -> bool:
        """Whether the judge decides. A response that was cut has no answer to compare."""
        if found.correct or found.status is RolloutStatus.TRUNCATED:
            return False
        if question.kind == "free":
            return True
        return self._options.short and found.status is RolloutStatus.GRADED

    def _is_checked(self, question: Question, found: Grade) -> bool:
        """The sample of rule verdicts, the same whenever the same answer is graded."""
        if found.status is not RolloutStatus.GRADED:
            return False
        key = f"{question.id}\0{found.extracted}".encode(errors="surrogatepass")
        return zlib.crc32(key) < self._options.check_share * 2**32

    def _request(self, question: Question, response: Response, found: Grade) -> TeacherRequest:
        text = found.extracted if found.extracted is not None else response.text
        text = text[-_MAX_RESPONSE_CHARS:]
        return TeacherRequest(
            purpose="judge",
            question=replace(question, media=()),  # it compares texts
            prompt=self._templates.judge(question, text),
            source_text=text,
            max_tokens=self._options.max_tokens,
            temperature=0.0,
            schema=VERDICT_SCHEMA if self._options.schema else None,
        )

    async def _verdicts(self, requests: Sequence[TeacherRequest]) -> list[Verdict]:
        """The verdict on each request: known, or asked once however often it occurs."""
        keys = [_digest(request.prompt) for request in requests]
        known = {key: self._cache[key] for key in keys if key in self._cache}
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in known}
        replies = await self._ask(list(new.values()))
        self._counts["calls"] += len(new)
        self._counts["cache_hits"] += len(keys) - len(new)
        for key, reply in zip(new, replies, strict=True):
            known[key] = verdict = read_reply(reply)
            self._counts["malformed"] += verdict == _MALFORMED
            self._counts["errors"] += verdict == _FAILED
            if verdict != _FAILED:
                self._learnt[key] = _NAMES[verdict]
                self._keep(key, verdict)
        self._require_judge()
        return [known[key] for key in keys]

    def _keep(self, key: str, verdict: Verdict) -> None:
        self._cache[key] = verdict
        if len(self._cache) > _CACHE_ENTRIES:
            del self._cache[next(iter(self._cache))]

    async def _ask(self, requests: list[TeacherRequest]) -> list[str | None]:
        if not requests:
            return []
        try:
            return await self._judge.complete(requests, (self._seed,))
        except ZppoError:
            raise
        except Exception:  # no teacher should raise; if one does, its calls failed
            _log.exception("the judge failed on %d answers", len(requests))
            return [None] * len(requests)
        finally:
            if isinstance(self._judge, ReportsFailures):
                for failure in self._judge.drain_failures():
                    self._counts[f"failed/{failure.reason}"] += failure.count

    def _require_judge(self) -> None:
        counts = self._counts
        calls, lost = counts["calls"], counts["errors"] + counts["malformed"]
        if calls >= _ENOUGH_CALLS and lost > self._options.max_failure_share * calls:
            reasons = sorted(k.removeprefix("failed/") for k in counts if k.startswith("failed/"))
            reasons += ["malformed"] if counts["malformed"] else []
            raise TeacherError(
                f"{lost} of {calls} calls of the judge gave no verdict "
                f"({', '.join(reasons) or 'no reply'}), more than rewards.max_judge_failure_share="
                f"{self._options.max_failure_share} allows; the answers would be graded wrong "
                "unread. Is its server up, can the model follow the judge prompt, and is "
                "rewards.judge_max_tokens enough for one that thinks? Resume the run then."
            )


def read_reply(reply: str | None) -> Verdict:
    """What the reply of a judge says. None is a call that failed."""
    if reply is None:
        return _FAILED
    return _VERDICTS.get(parse_verdict(_without_thinking(reply)) or "", _MALFORMED)


def _without_thinking(reply: str) -> str:
    """The reply after the judge's own thinking, whose opening tag a chat template may have eaten.

    With more than one closing tag it is not known where the thinking ends: a judge that quotes a
    response could be made to say the rest. Such a reply stays whole, and is malformed.
    """
    if reply.count("</think>") != 1:
        return reply
    thinking, _, rest = reply.partition("</think>")
    inside = thinking.lstrip().removeprefix("<think>")
    return reply if "<think>" in inside else rest


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest()
