"""The embedded engine: one process, torch and transformers, CPU or one GPU."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from zppo.config import Config, EvaluationConfig, RolloutConfig
from zppo.errors import ModelError, RunError
from zppo.student.adapt import checkpoint_layers, freeze_vision, with_adapters
from zppo.student.base import RolloutChunk
from zppo.student.distill import distill
from zppo.student.inputs import PromptEncoder
from zppo.student.loading import LoadedModel, load_model
from zppo.student.prefix import can_share_prompt
from zppo.student.sampler import Sampling, sample_groups
from zppo.student.text import decode_text, encode_text, text_response
from zppo.student.thread import ModelThread
from zppo.student.trainer import PolicyTrainer
from zppo.teacher.base import ReadsTokens
from zppo.types import Group, Prompt, Response, UpdateStats


class LocalStudent:
    """Implements `zppo.student.base.Student` with one transformers model that both samples and
    trains, so there are no weights to synchronise."""

    def __init__(self, loaded: LoadedModel, config: Config):
        self.config = config
        self.options = config.student
        self.loaded = loaded
        self.tokenizer = loaded.tokenizer
        self.model = with_adapters(loaded.model, self.options.lora)
        if self.options.freeze_vision:
            freeze_vision(self.model)
        if self.options.gradient_checkpointing:
            checkpoint_layers(self.model)
        network = self.model.get_base_model() if self.options.lora else self.model
        self.decoder, self.head = network.base_model, network.get_output_embeddings()
        if self.options.share_prompt and not can_share_prompt(network.config):
            raise ModelError(
                f"`{self.options.model}` has layers that prompt-once training does not know; "
                "set student.share_prompt=false."
            )
        self.encoder = PromptEncoder.configured(
            self.tokenizer,
            network,
            loaded.image_processor,
            config.data,
            visual_tokens=config.data.reformulated_visual_tokens,
        )
        self.trainer = PolicyTrainer(config, self.model, self.decoder, self.head, self.encoder)
        self._worker = ModelThread("zppo-student", self.options.threads)

    @classmethod
    def from_config(cls, config: Config) -> LocalStudent:
        """Load the student that `config` names. Raises `ModelError`."""
        s = config.student
        loaded = load_model(s.model, s.device, s.dtype, s.chat_template, s.trust_remote_code)
        return cls(loaded, config)

    # -- sampling -----------------------------------------------------------------------------

    async def rollout(
        self,
        prompts: Sequence[Prompt],
        n: int,
        seed: Sequence[int],
        sampling: RolloutConfig | EvaluationConfig | None = None,
    ) -> AsyncIterator[RolloutChunk]:
        """See `Student.rollout`. `sampling` replaces the training config's, for evaluation."""
        rule = Sampling.of(sampling or self.config.rollout)
        lengths = await self._worker.run(lambda: [self.encoder.length(p) for p in prompts])
        batches = self._sampling_batches(lengths, n, rule.max_tokens)
        # One chunk ahead: the next one samples while the caller grades this one.
        chunks = (
            self._worker.start(self._sample, prompts, batch, n, rule, seed) for batch in batches
        )
        chunk = next(chunks, None)
        try:
            while chunk is not None:
                done = await chunk
                chunk = next(chunks, None)
                yield done
        finally:
            if chunk is not None:
                chunk.cancel()

    def _sampling_batches(self, lengths: Sequence[int], n: int, max_tokens: int) -> list[list[int]]:
        """Prompts of like length together, each batch under the token budget."""
        budget = self.options.sampler_batch_tokens
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            rows = (len(batches[-1]) + 1) * n if batches else n
            if batches and rows * (lengths[i] + max_tokens) <= budget:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def _sample(
        self,
        prompts: Sequence[Prompt],
        batch: Sequence[int],
        n: int,
        sampling: Sampling,
        seed: Sequence[int],
    ) -> RolloutChunk:
        self.model.eval()
        device = self.loaded.device
        groups = sample_groups(
            self.decoder,
            self.head,
            self.encoder.collate(self.encoder.encode_all([prompts[i] for i in batch]), device),
            n,
            sampling,
            self.loaded.stop_ids,
            self.encoder.placeholder_ids,
            [(*seed, i) for i in batch],
            self._worker.abandoned,
        )
        return {
            i: tuple(
                Response(ids, logprobs, self._text(prompts[i], ids), finished)
                for ids, logprobs, finished in zip(
                    group.token_ids, group.logprobs, group.finished, strict=True
                )
            )
            for i, group in zip(batch, groups, strict=True)
        }

    def _text(self, prompt: Prompt, token_ids: np.ndarray) -> str:
        return self.decode([*prompt.prefix_ids, *token_ids.tolist()])

    # -- learning -----------------------------------------------------------------------------

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        """See `Student.update`."""
        return await self._worker.run(self.trainer.update, groups, advantages, updates, seed)

    async def distill(self, groups: Sequence[Group], teacher: ReadsTokens) -> UpdateStats:
        """See `Student.distill`."""
        return await self._worker.run(distill, self.trainer, groups, teacher)

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
        return self.encoder.length(prompt)

    def rendered(self, prompt: Prompt) -> str:
        """See `Student.rendered`."""
        return self.encoder.rendered(prompt)

    @property
    def context_limit(self) -> int:
        """See `Student.context_limit`."""
        return int(self.loaded.model.config.get_text_config().max_position_embeddings)

    # -- weights ------------------------------------------------------------------------------

    async def release(self) -> None:
        """Nothing to free: the sampler holds no memory between calls."""

    async def publish(self) -> None:
        """Nothing to copy: sampler and trainer are one model."""

    def save(self, path: Path) -> None:
        """Write a plain Hugging Face checkpoint (an adapter for LoRA) and `optimizer.pt`."""
        self._write(self.model, path)
        torch.save(self.trainer.optimizer.state_dict(), path / "optimizer.pt")

    def load(self, path: Path, optimizer: bool = True) -> None:
        """Restore `save`, without the optimiser's state where only the weights are wanted.
        Raises `RunError` when the folder does not fit this student."""
        try:
            if self.options.lora:
                from peft import load_peft_weights, set_peft_model_state_dict

                set_peft_model_state_dict(self.model, load_peft_weights(str(path)))
            else:
                saved = type(self.model).from_pretrained(path, dtype=self.model.dtype)
                self.model.load_state_dict(saved.state_dict())
            if not optimizer:
                return
            # On the CPU: the optimiser copies each piece to where it belongs.
            state = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
            self.trainer.optimizer.load_state_dict(state)
        except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
            raise RunError(f"Checkpoint `{path}` does not fit this student: {error}") from error

    def export(self, path: Path) -> None:
        """Write the model for use elsewhere: adapters merged, no optimiser."""
        self._write(self.model.merge_and_unload() if self.options.lora else self.model, path)

    def _write(self, model: Any, path: Path) -> None:
        model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)
        if self.loaded.image_processor is not None:
            self.loaded.image_processor.save_pretrained(path)
