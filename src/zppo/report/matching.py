"""Whether two answers say the same, by the run's own grading rule, in bounded time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from zppo.config_rewards import RewardsConfig
from zppo.rewards.answer import plainly_equal
from zppo.rewards.grader import GradingMode, is_right
from zppo.rewards.workers import Outcome, WorkerPool

#: (an answer, the one it is held against).
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Matched:
    """Which pairs are equal. `undecided` hit the deadline or the memory limit; they count as
    different."""

    equal: frozenset[Pair]
    undecided: int


class Matcher:
    """Compares answers as the grader of a run would: at sight here, the rest in killable
    processes (`rewards.isolate`), which start when the first answer needs one. Use it in a `with`
    block."""

    def __init__(self, rewards: RewardsConfig) -> None:
        self._mode: GradingMode = rewards.mode
        self._pool = None
        if rewards.isolate and os.name == "posix":
            self._pool = WorkerPool(
                rewards.workers, deadline_s=rewards.deadline_s, memory_mb=rewards.memory_mb
            )

    def match(self, pairs: Iterable[Pair]) -> Matched:
        """Decide every pair, each once. Raises `RunError` when no process can be started."""
        equal: set[Pair] = set()
        unread: list[Pair] = []
        for pair in dict.fromkeys(pairs):
            at_sight = plainly_equal(*pair)
            if at_sight is None:
                unread.append(pair)
            elif at_sight:
                equal.add(pair)
        outcomes = self._read(unread)
        equal |= {p for p, o in zip(unread, outcomes, strict=True) if o is Outcome.RIGHT}
        undecided = sum(o in (Outcome.TIMEOUT, Outcome.ERROR) for o in outcomes)
        return Matched(frozenset(equal), undecided)

    def _read(self, pairs: list[Pair]) -> list[Outcome]:
        if self._pool is not None:
            return self._pool.grade([(*pair, None, self._mode) for pair in pairs])
        verdicts = (is_right(*pair, None, self._mode) for pair in pairs)
        return [Outcome.RIGHT if right else Outcome.WRONG for right in verdicts]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.close()
