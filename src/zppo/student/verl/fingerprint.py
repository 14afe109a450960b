"""Do the rollout servers hold the trainer's weights? Stale weights raise no error by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from zppo.errors import EngineError
from zppo.student.inputs import PromptEncoder
from zppo.student.sampler import Sampling
from zppo.student.verl.batch import Rows, arrange, deal
from zppo.student.verl.cluster import VerlCluster
from zppo.student.verl.media import prompt_rows
from zppo.student.verl.requests import sampling_params
from zppo.types import Group, GroupKind, Prompt, Question, Response, Rollout, RolloutStatus

_TOKENS = 16
_TEXT = "Count from one to ten and say which of the numbers are prime."


class Fingerprint:
    """Every server samples a few tokens, and the trainer scores them: their log-probs must agree.

    The check finds weights that never arrived, are garbled, or lie many updates back; one update
    at a small learning rate moves log-probs by less than bf16 rounds them.
    """

    def __init__(
        self, cluster: VerlCluster, encoder: PromptEncoder, stop_ids: Sequence[int]
    ) -> None:
        self.cluster = cluster
        question = Question("fingerprint", _TEXT, "")
        self.prompt = Prompt(question, GroupKind.PLAIN, _TEXT)
        [self.row] = prompt_rows(encoder, [self.prompt])
        self.params = sampling_params(
            Sampling(max_tokens=_TOKENS), stop_ids, encoder.placeholder_ids, None
        )
        #: Mean gap in nats a token at the last check, one a server.
        self.gaps: list[float] = []

    async def check(
        self, logprobs: Callable[[Sequence[Rows]], Awaitable[list[np.ndarray]]]
    ) -> None:
        """Raises `EngineError` when a server and the trainer (`logprobs`) are further apart than
        `verl.fingerprint_tolerance`."""
        responses = await asyncio.gather(
            *(self._sample(replica) for replica in self.cluster.servers.get_replicas())
        )
        rollouts = tuple(Rollout(r, 0.0, RolloutStatus.GRADED) for r in responses)
        groups = [Group(self.prompt, rollouts)]
        advantages = np.ones(len(rollouts))
        plan = arrange(
            groups,
            advantages,
            [len(self.row.ids)],
            1,
            self.cluster.ranks,
            np.random.default_rng(0),
        )
        dealt = deal(plan, groups, [self.row], advantages)
        pairs = zip(dealt, await logprobs(dealt), strict=True)
        trained = [row for part, flat in pairs for row in part.split(flat)]
        gaps = dict.fromkeys(range(len(rollouts)), 0.0)
        for i, theirs in zip(plan.rollout.tolist(), trained, strict=True):
            sampled = responses[i].logprobs
            if i in gaps and sampled is not None:
                gaps[i] = float(np.abs(sampled - theirs).mean())
        self.gaps = [gaps[i] for i in range(len(rollouts))]
        limit = self.cluster.options.fingerprint_tolerance
        if not max(self.gaps) <= limit:
            raise EngineError(
                f"Rollout server {int(np.argmax(self.gaps))} does not have the trainer's weights: "
                f"its log-probs are {max(self.gaps):.3g} nats a token away from the trainer's "
                f"(verl.fingerprint_tolerance={limit:g})."
            )

    async def _sample(self, replica: Any) -> Response:
        async def request() -> Any:
            return await replica.server_handle.generate.remote(
                prompt_ids=self.row.ids.tolist(),
                sampling_params=dict(self.params),
                request_id=f"fingerprint-{replica.replica_rank}",
            )

        output = await self.cluster.answer("answer the fingerprint", request())
        if not output.token_ids or output.log_probs is None:
            raise EngineError(f"Rollout server {replica.replica_rank} gave no log-probs.")
        ids = np.asarray(output.token_ids, dtype=np.int64)
        return Response(ids, np.asarray(output.log_probs, dtype=np.float32), "", True)
