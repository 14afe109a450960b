"""The embedded engine: one process, torch and transformers, CPU or one GPU."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from zppo.config import Config, EvaluationConfig, LoraConfig, RolloutConfig
from zppo.errors import ModelError, RunError
from zppo.student.base import RolloutChunk
from zppo.student.batching import Piece, micro_batches, mini_batches, with_gradient
from zppo.student.inputs import EncodedPrompt, PromptEncoder, with_pixel_limits
from zppo.student.loading import LoadedModel, load_model
from zppo.student.losses import chunked_logprobs, policy_loss
from zppo.student.optimizer import MasterAdamW
from zppo.student.prefix import can_share_prompt, response_hidden
from zppo.student.sampler import Sampling, sample_groups, seeded_generator
from zppo.student.thread import ModelThread
from zppo.types import Group, Prompt, Response, UpdateStats


class LocalStudent:
    """Implements `zppo.student.base.Student` with one transformers model that both samples and
    trains, so there are no weights to synchronise."""

    def __init__(self, loaded: LoadedModel, config: Config):
        self.config = config
        self.options = config.student
        self.loaded = loaded
        self.tokenizer = loaded.tokenizer
        self.model = _with_adapters(loaded.model, self.options.lora)
        if self.options.freeze_vision:
            _freeze_vision(self.model)
        if self.options.gradient_checkpointing:
            _checkpoint_layers(self.model)
        network = self.model.get_base_model() if self.options.lora else self.model
        self.decoder, self.head = network.base_model, network.get_output_embeddings()
        if self.options.share_prompt and not can_share_prompt(network.config):
            raise ModelError(
                f"`{self.options.model}` has layers that prompt-once training does not know; "
                "set student.share_prompt=false."
            )
        self.encoder = PromptEncoder(
            self.tokenizer,
            network,
            with_pixel_limits(loaded.image_processor, config.data),
            video_fps=config.data.video_fps,
            max_frames=config.data.max_frames,
        )
        self.banned = self.encoder.placeholder_ids
        self.optimizer = MasterAdamW(
            [p for p in self.model.parameters() if p.requires_grad], config.optimizer
        )
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
        encoded = await self._worker.run(lambda: [self.encoder.encode(p) for p in prompts])
        for index, batch in enumerate(self._sampling_batches(encoded, n, rule.max_tokens)):
            chunk = await self._worker.run(
                self._sample, prompts, encoded, batch, n, rule, (*seed, index)
            )
            yield chunk

    def _sampling_batches(
        self, encoded: Sequence[EncodedPrompt], n: int, max_tokens: int
    ) -> list[list[int]]:
        """Prompts of like length together, each batch under the token budget."""
        budget = self.options.sampler_batch_tokens
        batches: list[list[int]] = []
        for i in sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i)):
            rows = (len(batches[-1]) + 1) * n if batches else n
            if batches and rows * (len(encoded[i]) + max_tokens) <= budget:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def _sample(
        self,
        prompts: Sequence[Prompt],
        encoded: Sequence[EncodedPrompt],
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
            self.encoder.collate([encoded[i] for i in batch], device),
            n,
            sampling,
            self.loaded.stop_ids,
            self.banned,
            seeded_generator(seed, device),
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
        return await self._worker.run(self._update, groups, advantages, updates, seed)

    def _update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        self.model.train()
        responses = [r.response for g in groups for r in g.rollouts]
        tokens = [len(r.token_ids) for r in responses]
        batches = mini_batches(groups, updates, np.random.default_rng(list(seed)))
        old = self._old_logprobs(groups, responses, batches, advantages)
        totals: dict[str, float] = {}
        norms: list[float] = []
        for number, batch in enumerate(batches):
            denominator = sum(tokens[i] for piece in batch for i in piece.flat)
            self.optimizer.zero_grad()
            learning = with_gradient(batch, advantages)
            if number == 0 and not learning:
                self._measure_gap(totals, groups, batch[:1], responses)
            for micro, encoded in self._micro_batches(groups, learning, tokens):
                logprobs, mask = self._logprobs(micro, encoded, responses)
                rows = [i for piece in micro for i in piece.flat]
                loss, stats = policy_loss(
                    logprobs,
                    _pad([old[i] for i in rows], mask),
                    torch.tensor(advantages[rows], dtype=torch.float32, device=mask.device)[
                        :, None
                    ],
                    mask,
                    self.config.optimizer.clip_low,
                    self.config.optimizer.clip_high,
                    self.config.optimizer.dual_clip,
                    denominator,
                )
                if not torch.isfinite(loss):
                    raise RunError(f"The loss of update {number + 1} is {loss.item()}.")
                loss.backward()
                _add(totals, stats | {"loss": loss.detach()})
                if number == 0:
                    _add_gap(totals, logprobs, responses, rows, mask)
            norm = self.optimizer.clip()
            if not np.isfinite(norm):
                raise RunError(f"The gradient norm of update {number + 1} is {norm}.")
            self.optimizer.step()
            norms.append(norm)
        self.optimizer.zero_grad()
        return UpdateStats(len(batches), _summary(totals, norms))

    def _micro_batches(
        self, groups: Sequence[Group], pieces: Sequence[Piece], tokens: Sequence[int]
    ) -> list[tuple[list[Piece], dict[int, EncodedPrompt]]]:
        encoded = {p.group: self.encoder.encode(groups[p.group].prompt) for p in pieces}
        lengths = [len(encoded[g]) if g in encoded else 0 for g in range(len(groups))]
        return [
            (micro, encoded)
            for micro in micro_batches(
                pieces,
                lengths,
                tokens,
                self.options.micro_batch_tokens,
                self.options.share_prompt,
            )
        ]

    def _logprobs(
        self,
        pieces: Sequence[Piece],
        encoded: dict[int, EncodedPrompt],
        responses: Sequence[Response],
    ) -> tuple[Tensor, Tensor]:
        """(R, T) log-probs of the pieces' response tokens and their mask."""
        device = self.loaded.device
        prompts = self.encoder.collate([encoded[p.group] for p in pieces], device)
        owner = torch.tensor([i for i, p in enumerate(pieces) for _ in p.rows], device=device)
        flat = [i for p in pieces for i in p.flat]
        lengths = torch.tensor([len(responses[i].token_ids) for i in flat], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        ids = _pad([responses[i].token_ids for i in flat], mask)
        hidden = response_hidden(
            self.decoder, prompts, owner, ids, lengths, self.options.share_prompt
        )
        values = chunked_logprobs(
            hidden[mask],
            ids[mask],
            self.head,
            self.config.rollout.temperature,
            self.banned,
            self.options.logprob_chunk_tokens,
        )
        return values.new_zeros(mask.shape).masked_scatter(mask, values), mask

    @torch.no_grad()
    def _measure_gap(
        self,
        totals: dict[str, float],
        groups: Sequence[Group],
        pieces: Sequence[Piece],
        responses: Sequence[Response],
    ) -> None:
        """The sampler/trainer gap of a step whose first mini-batch needs no forward pass."""
        tokens = [len(r.token_ids) for r in responses]
        for micro, encoded in self._micro_batches(groups, pieces, tokens):
            logprobs, mask = self._logprobs(micro, encoded, responses)
            _add_gap(totals, logprobs, responses, [i for p in micro for i in p.flat], mask)

    @torch.no_grad()
    def _old_logprobs(
        self,
        groups: Sequence[Group],
        responses: Sequence[Response],
        batches: Sequence[Sequence[Piece]],
        advantages: np.ndarray,
    ) -> list[np.ndarray]:
        """The denominators of the ratio, one (R,) a rollout: the sampler's log-probs, or those of
        a forward pass with the weights as they are before the first update."""
        recompute = self.options.old_logprobs == "recompute"
        old = [
            np.zeros(len(r.token_ids), np.float32) if r.logprobs is None else r.logprobs
            for r in responses
        ]
        tokens = [len(r.token_ids) for r in responses]
        for batch in batches:
            stale = [
                Piece(p.group, rows, p.first)
                for p in with_gradient(batch, advantages)
                if (
                    rows := tuple(
                        r for r in p.rows if recompute or responses[p.first + r].logprobs is None
                    )
                )
            ]
            for micro, encoded in self._micro_batches(groups, stale, tokens):
                logprobs, _ = self._logprobs(micro, encoded, responses)
                for row, i in enumerate(i for piece in micro for i in piece.flat):
                    old[i] = logprobs[row, : tokens[i]].cpu().numpy()
        return old

    # -- text ---------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """See `Student.encode`."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]

    def decode(self, token_ids: Sequence[int]) -> str:
        """See `Student.decode`."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def as_response(self, text: str) -> Response:
        """See `Student.as_response`."""
        ids = [*self.encode(text), self.tokenizer.eos_token_id]
        return Response(np.asarray(ids, dtype=np.int64), None, text, True)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """See `Student.prompt_tokens`."""
        return len(self.encoder.encode(prompt))

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
        self.model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)
        if self.loaded.image_processor is not None:
            self.loaded.image_processor.save_pretrained(path)
        torch.save(self.optimizer.state_dict(), path / "optimizer.pt")

    def load(self, path: Path) -> None:
        """Restore `save`. Raises `RunError` when the folder does not fit this student."""
        try:
            if self.options.lora:
                from peft import load_peft_weights, set_peft_model_state_dict

                set_peft_model_state_dict(self.model, load_peft_weights(str(path)))
            else:
                saved = type(self.model).from_pretrained(path, dtype=self.model.dtype)
                self.model.load_state_dict(saved.state_dict())
            # On the CPU: the optimiser copies each piece to where it belongs.
            state = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
            self.optimizer.load_state_dict(state)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise RunError(f"Checkpoint `{path}` does not fit this student: {error}") from error

    def export(self, path: Path) -> None:
        """Write the model for use elsewhere: adapters merged, no optimiser."""
        model = self.model.merge_and_unload() if self.options.lora else self.model
        model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)
        if self.loaded.image_processor is not None:
            self.loaded.image_processor.save_pretrained(path)


def _with_adapters(model: Any, lora: LoraConfig | None) -> Any:
    if lora is None:
        return model
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model

    settings = PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise ModelError(f"student.lora: {error}") from None


def _freeze_vision(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if "visual" in name:
            parameter.requires_grad_(False)


def _checkpoint_layers(model: Any) -> None:
    """Recompute each layer in the backward pass. transformers' own switch drops the cache that
    prompt-once training reads; ours may repeat a layer because that cache is never written to."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.forward = _recomputed(module.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return call


def _pad(rows: Sequence[np.ndarray], mask: Tensor) -> Tensor:
    """Right-pad 1-D arrays with zeros to the shape of `mask`."""
    padded = np.zeros(mask.shape, dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded).to(mask.device)


def _add(totals: dict[str, float], stats: dict[str, Tensor]) -> None:
    for key, value in stats.items():
        totals[key] = totals.get(key, 0.0) + float(value)


def _add_gap(
    totals: dict[str, float],
    logprobs: Tensor,
    responses: Sequence[Response],
    rows: Sequence[int],
    mask: Tensor,
) -> None:
    """Sampler against trainer, on the first mini-batch: its weights are still the sampler's."""
    known = [(r, i) for r, i in enumerate(rows) if responses[i].logprobs is not None]
    if not known:
        return
    index = torch.tensor([r for r, _ in known], device=mask.device)
    sampler = _pad([responses[i].logprobs for _, i in known], mask[index])  # pyright: ignore[reportArgumentType]
    gap = ((logprobs.detach()[index] - sampler) * mask[index]).abs()
    totals["gap_sum"] = totals.get("gap_sum", 0.0) + float(gap.sum())
    totals["gap_tokens"] = totals.get("gap_tokens", 0.0) + float(mask[index].sum())
    totals["gap_max"] = max(totals.get("gap_max", 0.0), float(gap.max()))


def _summary(totals: dict[str, float], norms: Sequence[float]) -> dict[str, float]:
    tokens = max(totals.get("tokens", 0.0), 1.0)
    metrics = {
        "loss": totals.get("loss", 0.0) / len(norms),
        "grad_norm": float(np.mean(norms)),
        "clip/low": totals.get("clipped_low", 0.0) / tokens,
        "clip/high": totals.get("clipped_high", 0.0) / tokens,
        "clip/dual": totals.get("clipped_dual", 0.0) / tokens,
        "kl_from_rollout": totals.get("kl", 0.0) / tokens,
        "tokens_with_gradient": totals.get("tokens", 0.0),
    }
    if "gap_tokens" in totals:
        metrics["logprob_gap/mean"] = totals["gap_sum"] / totals["gap_tokens"]
        metrics["logprob_gap/max"] = totals["gap_max"]
    return metrics
