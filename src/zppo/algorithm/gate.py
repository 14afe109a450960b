"""The NCQ gate, beyond the paper: no NCQ prompts for a student that repeats what they list.

The paper's smallest student gives an answer that its NCQ prompt lists as wrong in 82.7% of the
rollouts, which then teach nothing and take places from BCQ under the post-cap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zppo.algorithm.methods import Method
from zppo.rewards.answer import plainly_equal
from zppo.types import Group, GroupKind, Reformulation, Rollout

#: Weight of the past in the running average, a step with NCQ rollouts at a time.
DECAY = 0.9


class NcqGate:
    """Keeps the running match-neg rate, and closes while it is not below `threshold` (None: never).

    A closed gate makes no NCQ rollouts, so there is nothing to measure and it stays closed, until
    a resume sets another threshold.
    """

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = threshold
        self.average: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether NCQ prompts are built. Open until something was measured."""
        return self.threshold is None or self.average is None or self.average < self.threshold

    def applied_to(self, method: Method) -> Method:
        """`method`, without NCQ while the gate is closed."""
        return method if self.is_open else replace(method, ncq=False)

    def update(self, chosen: Sequence[Reformulation], groups: Sequence[Group]) -> dict[str, float]:
        """Learn from a step's reformulations and the groups sampled on them, in the same order.

        Returns metrics: `ncq/match_neg`, the share of NCQ rollouts whose answer the prompt lists
        as wrong (where there were any), its running average, and whether the gate is open.
        """
        repeats = [
            _repeats(rollout, asked.wrong_answers)
            for asked, group in zip(chosen, groups, strict=True)
            if group.kind is GroupKind.NCQ
            for rollout in group.rollouts
        ]
        metrics: dict[str, float] = {}
        if repeats:
            rate = sum(repeats) / len(repeats)
            past = rate if self.average is None else self.average
            self.average = DECAY * past + (1.0 - DECAY) * rate
            metrics = {"ncq/match_neg": rate, "ncq/match_neg_average": self.average}
        return metrics | ({} if self.threshold is None else {"ncq/gate_open": float(self.is_open)})

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self.average = state["average"]


def _repeats(rollout: Rollout, listed: Sequence[str]) -> bool:
    """At sight: the same text, or the same number. `zppo audit` reads answers in full."""
    answer = rollout.extracted
    return answer is not None and any(plainly_equal(answer, wrong) for wrong in listed)
