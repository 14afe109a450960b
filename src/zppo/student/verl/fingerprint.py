"""Do the rollout servers hold the trainer's weights? Stale weights raise no error by themselves."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from zppo.errors import EngineError
from zppo.student.sampler import Sampling
from zppo.student.verl.batch import Rows, arrange, deal
from zppo.student.verl.cluster import VerlCluster, answered
from zppo.student.verl.media import AtReceiver
from zppo.student.verl.prompts import StepPrompts
from zppo.student.verl.requests import sampling_params
from zppo.types import (
    Group,
    GroupKind,
    Media,
    Prompt,
    Question,
    Response,
    Rollout,
    RolloutStatus,
)

_TOKENS = 16
_TEXT = "Count from one to ten and say which of the numbers are prime."


class Fingerprint:
    """Every server samples a few tokens, and the trainer scores them: their log-probs must agree.

    The check finds weights that never arrived, are garbled, or lie many updates back; one update
    at a small learning rate moves log-probs by less than bf16 rounds them. A model that takes
    images is shown one, so it also finds a server that makes other tokens or pixels of it.
    """

    def __init__(self, cluster: VerlCluster, prompts: StepPrompts, stop_ids: Sequence[int]) -> None:
        self.cluster, encoder = cluster, prompts.encoder
        sees = encoder.rope is not None and encoder.image_processor is not None
        media = (Media("image", (_picture(),)),) if sees else ()
        question = Question("fingerprint", _TEXT, "", media=media)
        self.prompt = Prompt(question, GroupKind.PLAIN, _TEXT)
        [self.row] = prompts.rows([self.prompt])
        [self.asked] = prompts.requested([self.prompt], keep=False)
        self.params = sampling_params(
            Sampling(max_tokens=_TOKENS), stop_ids, encoder.placeholder_ids
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
        request = replica.server_handle.generate.remote(
            prompt_ids=self.asked.ids.tolist(),
            sampling_params=dict(self.params),
            request_id=uuid4().hex,
            image_data=[AtReceiver(image) for image in self.asked.images] or None,
        )
        timeout = self.cluster.options.request_timeout
        output = await answered("answer the fingerprint", request, timeout)
        if not output.token_ids or output.log_probs is None:
            raise EngineError(f"Rollout server {replica.replica_rank} gave no log-probs.")
        ids = np.asarray(output.token_ids, dtype=np.int64)
        return Response(ids, np.asarray(output.log_probs, dtype=np.float32), "", True)


def _picture() -> bytes:
    """A PNG file whose pixels all differ, so that a wrong order shows."""
    across, down = np.meshgrid(np.arange(64, dtype=np.uint8), np.arange(48, dtype=np.uint8))
    pixels = np.stack([4 * across, 5 * down, across ^ down], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
