"""The cluster engine: the `Student` protocol over verl's workers and rollout servers."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zppo.config import Config, EvaluationConfig, RolloutConfig
from zppo.errors import ConfigError, EngineError, RunError
from zppo.student.base import RolloutChunk
from zppo.student.loading import LoadedModel
from zppo.student.sampler import Sampling
from zppo.student.text import decode_text, encode_text, text_response
from zppo.student.verl import batch as rows
from zppo.student.verl.cluster import VerlCluster
from zppo.student.verl.config import compute_dtype, verl_config
from zppo.student.verl.fingerprint import Fingerprint
from zppo.student.verl.learn import learn, score
from zppo.student.verl.on_worker import apply_optimizer_settings, load_resharded, write_model
from zppo.student.verl.reader import PromptReader
from zppo.student.verl.relay import start_relays
from zppo.student.verl.requests import Requests
from zppo.teacher.base import ReadsTokens
from zppo.types import Group, Prompt, Response, UpdateStats

#: Folder of a checkpoint with verl's own, sharded state.
SHARDS = "verl"


class VerlStudent:
    """Implements `zppo.student.base.Student`. This process holds no weights: it renders prompts,
    hands out rows and reads answers."""

    def __init__(self, loaded: LoadedModel, config: Config) -> None:
        self.config, self.options = config, config.verl
        self.loaded, self.tokenizer = loaded, loaded.tokenizer
        self.reader = PromptReader(loaded, config)
        self.encoder, self._context = self.reader.encoder, self.reader.context_limit
        self.tree = verl_config(config, self._context)
        self.cluster = VerlCluster(self.tree, self.options)
        self.prompts = self.reader.prompts
        self.relays = start_relays(self.cluster, self.tokenizer, loaded.stop_ids)
        self.requests = Requests(
            self.relays, self.options, loaded.stop_ids, self.encoder.placeholder_ids
        )
        self.fingerprint = Fingerprint(self.cluster, self.prompts, loaded.stop_ids)
        #: Whether the rollout servers are awake with the trainer's weights.
        self._published = False
        self._publications = 0

    @classmethod
    def from_config(cls, config: Config) -> VerlStudent:
        """Start the cluster that `config` describes. Raises `ModelError`, `ConfigError` for what
        this engine cannot do, and `EngineError` when the workers do not come up."""
        return cls(PromptReader.from_config(config).loaded, config)

    # -- sampling -----------------------------------------------------------------------------

    async def rollout(
        self,
        prompts: Sequence[Prompt],
        n: int,
        seed: Sequence[int],
        sampling: RolloutConfig | EvaluationConfig | None = None,
    ) -> AsyncIterator[RolloutChunk]:
        """See `Student.rollout`. A rollout that a server failed to give is a response without
        tokens that names the reason."""
        if not self._published:
            await self.publish()
        asked = await asyncio.to_thread(self.prompts.requested, prompts, sampling is None)
        rule = Sampling.of(sampling or self.config.rollout)
        async for chunk in self.requests.answers(asked, n, rule, seed):
            yield chunk

    # -- learning -----------------------------------------------------------------------------

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        """See `Student.update`."""
        prompts = await asyncio.to_thread(self.prompts.rows, [g.prompt for g in groups])
        self.prompts.forget()
        lengths = [len(prompt.ids) for prompt in prompts]
        rng = np.random.default_rng(list(seed))
        plan = rows.arrange(groups, advantages, lengths, updates, self.cluster.ranks, rng)
        dealt = await asyncio.to_thread(rows.deal, plan, groups, prompts, advantages)
        sent = await self.cluster.call("take the rollouts", self.cluster.share, dealt)
        sampled = [part.logprobs for part in dealt]
        old, metrics = sampled, {}
        if self._recomputes or any(part is None for part in sampled):
            old = await self._logprobs(sent)
            metrics = _gap(dealt, old)
        options = rows.update_options(plan, self.config.rollout.temperature)
        self._published = False
        outputs = await self.cluster.call(
            "update", self.cluster.on_ranks, learn, sent, old, [options] * plan.ranks
        )
        return UpdateStats(plan.updates, _summary(outputs[0], updates) | metrics)

    @property
    def _recomputes(self) -> bool:
        """Whether the ratio's denominator is the trainer's own log-prob: in bf16 trainer and
        server differ by more than an update moves it, and a server tells the log-probs of what
        truncation leaves."""
        wanted = self.config.student.old_logprobs
        truncates = Sampling.of(self.config.rollout).truncates
        return wanted == "recompute" or (
            wanted == "auto" and (compute_dtype(self.config) != "float32" or truncates)
        )

    async def _logprobs(self, dealt: Sequence[rows.Rows]) -> list[np.ndarray]:
        """The trainer's log-probs of the response tokens, one array a rank."""
        temperature = [self.config.rollout.temperature] * len(dealt)
        return await self.cluster.call(
            "compute log-probs", self.cluster.on_ranks, score, dealt, temperature
        )

    async def distill(self, groups: Sequence[Group], teacher: ReadsTokens) -> UpdateStats:
        """Not possible: a teacher's distributions never leave its process."""
        raise ConfigError("student.engine=verl cannot distil; set student.engine=local.")

    # -- text ---------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """See `Student.encode`."""
        return encode_text(self.tokenizer, text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """See `Student.decode`."""
        return decode_text(self.tokenizer, token_ids)

    def as_response(self, text: str) -> Response:
        """See `Student.as_response`."""
        return text_response(self.tokenizer, text)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """See `Student.prompt_tokens`."""
        return self.reader.prompt_tokens(prompt)

    def rendered(self, prompt: Prompt) -> str:
        """See `Student.rendered`."""
        return self.reader.rendered(prompt)

    @property
    def context_limit(self) -> int:
        """See `Student.context_limit`."""
        return self._context

    # -- weights ------------------------------------------------------------------------------

    async def release(self) -> None:
        """Put the rollout servers to sleep: their memory is the trainer's until `publish`."""
        if self._published:
            self._published = False
            await self.cluster.call("put the servers to sleep", self.cluster.weights.sleep_replicas)

    async def publish(self) -> None:
        """Give the trainer's weights to the rollout servers and wake them up. Raises
        `EngineError` when a server's log-probs show that it does not have them."""
        await self.cluster.call("publish the weights", self.cluster.weights.update_weights)
        every = self.options.fingerprint_every
        if every and self._publications % every == 0:
            await self.fingerprint.check(self._logprobs)
        self._publications += 1
        self._published = True

    def save(self, path: Path) -> None:
        """Write verl's sharded state under `verl/`, and the model as a plain Hugging Face
        checkpoint. `path` must be one that all machines share."""
        path, shards = path.absolute(), (path / SHARDS).absolute()
        save = self.cluster.workers.save_checkpoint
        self.cluster.call_now("save a checkpoint", save, str(shards))
        self.cluster.call_now(
            "save the model",
            self.cluster.on_each_worker,
            write_model,
            str(path),
            compute_dtype(self.config),
        )
        if not any(path.glob("*.safetensors")):
            raise EngineError(
                f"The workers' model is not in `{path}`; the run's folder must lie on a file "
                "system that all machines share."
            )
        shutil.rmtree(shards / "huggingface", ignore_errors=True)  # config and tokenizer, again
        self.tokenizer.save_pretrained(path)
        if self.loaded.image_processor is not None:
            self.loaded.image_processor.save_pretrained(path)

    def load(self, path: Path, optimizer: bool = True) -> None:
        """Restore `save`, also on another number of ranks. Settings of the optimiser stay those
        of this run's config. Raises `RunError` when the folder holds no such checkpoint."""
        del optimizer  # verl makes its optimiser with its model
        shards = (path / SHARDS).absolute()
        written = len(list(shards.glob("model_world_size_*_rank_*.pt")))
        if not written:
            raise RunError(
                f"Checkpoint `{path}` has no folder `{SHARDS}`: it was not written by "
                "student.engine=verl."
            )
        if self._published:
            self._published = False
            self.cluster.call_now("put the servers to sleep", self.cluster.weights.sleep_replicas)
        workers = self.cluster.workers
        if written == workers.world_size:
            self.cluster.call_now("load a checkpoint", workers.load_checkpoint, str(shards))
        else:
            self.cluster.call_now(
                "load a checkpoint of another number of ranks",
                self.cluster.on_each_worker,
                load_resharded,
                str(shards),
                written,
            )
        o = self.config.optimizer
        settings = {
            "lr": o.lr,
            "betas": tuple(o.betas),
            "eps": o.eps,
            "weight_decay": o.weight_decay,
        }
        self.cluster.call_now(
            "set up the optimiser",
            self.cluster.on_each_worker,
            apply_optimizer_settings,
            settings,
        )

    def engine_config(self) -> str:
        """verl's resolved config as YAML."""
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(self.tree)

    def close(self) -> None:
        """Stop relays, workers and servers."""
        for relay in self.relays:
            relay.close()
        self.cluster.close()


def _gap(dealt: Sequence[rows.Rows], trained: Sequence[np.ndarray]) -> dict[str, float]:
    """Server against trainer, on all rows that are rollouts and have the server's log-probs."""
    gaps = [
        np.abs(part.logprobs - theirs)[np.repeat(part.prompt != rows.PADDING, part.lengths)]
        for part, theirs in zip(dealt, trained, strict=True)
        if part.logprobs is not None
    ]
    tokens = sum(len(gap) for gap in gaps)
    if not tokens:
        return {}
    return {
        "logprob_gap/mean": sum(float(gap.sum()) for gap in gaps) / tokens,
        "logprob_gap/max": max(float(gap.max(initial=0.0)) for gap in gaps),
    }


def _summary(metrics: dict[str, Any], updates: int) -> dict[str, float]:
    """verl's metrics of the mini-batches as ours. Raises `RunError` where one was not finite; verl
    has then left its optimiser step out."""
    norms = np.atleast_1d(np.asarray(metrics["grad_norm"], dtype=float))
    losses = np.atleast_1d(np.asarray(metrics["loss"], dtype=float))
    if len(norms) != updates:
        raise EngineError(f"verl took {len(norms)} optimiser steps where {updates} were asked for.")
    for name, values in (("loss", losses), ("gradient norm", norms)):
        if not np.isfinite(values).all():
            number = int(np.flatnonzero(~np.isfinite(values))[0])
            raise RunError(f"The {name} of update {number + 1} is {values[number]}.")
    found = {"loss": float(losses.mean()), "grad_norm": float(norms.mean())}
    for name, theirs in (
        ("clip/share", "actor/pg_clipfrac"),
        ("clip/dual", "actor/pg_clipfrac_lower"),
        ("ppo_kl", "actor/ppo_kl"),
    ):
        if theirs in metrics:
            found[name] = float(np.mean(metrics[theirs]))
    return found
