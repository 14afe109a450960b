"""The model that is evaluated: in this process, or behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zppo.config import Config, OpenAITeacherConfig
from zppo.errors import ConfigError, DataError, ModelError
from zppo.evaluation.benchmark import Item
from zppo.student.base import Student
from zppo.student.inputs import EncodedPrompt, PromptEncoder, with_pixel_limits
from zppo.student.loading import LoadedModel, load_model
from zppo.student.sampler import Sampling, sample_groups
from zppo.student.thread import ModelThread
from zppo.teacher.openai import OpenAITeacher
from zppo.types import GroupKind, Prompt


@dataclass(frozen=True, slots=True)
class Ask:
    """A question as it is asked: `text` is the user turn, closer included. `missing` are the
    sample numbers, out of `samples`, that have no response yet."""

    item: Item
    text: str
    samples: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, or in `error` why there is none. `finished` is False when the token limit cut
    it, None where that is not known."""

    id: str
    sample: int
    text: str | None = None
    finished: bool | None = None
    tokens: int | None = None
    error: str = ""


class Model(Protocol):
    """Answers questions. An answer that could not be had is a value, not an exception."""

    name: str

    def describe(self) -> dict[str, Any]:
        """What results say about the model."""
        ...

    def answer(self, asks: Sequence[Ask], seed: Sequence[int]) -> AsyncIterator[list[Answer]]:
        """Answers to all missing samples, in pieces as they come. What a sample is does not
        depend on which others are missing, as far as the model can repeat itself."""
        ...

    async def aclose(self) -> None:
        """Let go of what it holds."""
        ...


class LocalModel:
    """A transformers model in this process, on the library's own sampler: one prefill a question
    shared by its samples, and the presence penalty over generated tokens."""

    def __init__(self, loaded: LoadedModel, config: Config, name: str) -> None:
        self.loaded, self.config, self.name = loaded, config, name
        loaded.model.requires_grad_(False)
        loaded.model.eval()
        self.encoder = PromptEncoder(
            loaded.tokenizer,
            loaded.model,
            with_pixel_limits(loaded.image_processor, config.data),
            video_fps=config.data.video_fps,
            max_frames=config.data.max_frames,
        )
        self.sampling = Sampling.of(config.evaluation)
        self.context = int(loaded.model.config.get_text_config().max_position_embeddings)
        if self.sampling.max_tokens >= self.context:
            raise ModelError(
                f"evaluation.max_response_tokens={self.sampling.max_tokens} fills the context of "
                f"`{name}` ({self.context} tokens); lower it."
            )
        self._worker = ModelThread("zppo-evaluation", config.student.threads)

    @classmethod
    def load(cls, config: Config, checkpoint: Path | None = None) -> LocalModel:
        """The model that `config.student` names, or a run's checkpoint of it. Raises
        `ModelError`."""
        s = config.student
        adapter = checkpoint is not None and (checkpoint / "adapter_config.json").is_file()
        where = s.model if checkpoint is None or adapter else str(checkpoint)
        loaded = load_model(where, s.device, s.dtype, s.chat_template, s.trust_remote_code)
        if adapter:
            from peft import PeftModel

            merged = PeftModel.from_pretrained(loaded.model, str(checkpoint)).merge_and_unload()  # pyright: ignore[reportCallIssue]
            loaded = replace(loaded, model=merged)
        return cls(loaded, config, str(checkpoint or s.model))

    def describe(self) -> dict[str, Any]:
        """See `Model.describe`."""
        model = self.loaded.model
        return {
            "name": self.name,
            "engine": "in process",
            "class": type(model).__name__,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(self.loaded.device),
            "parameters": sum(p.numel() for p in model.parameters()),
        }

    async def answer(self, asks: Sequence[Ask], seed: Sequence[int]) -> AsyncIterator[list[Answer]]:
        """See `Model.answer`. A question's draws follow from its place among all questions, so an
        evaluation that was killed between two batches goes on with the responses it would have
        had."""
        first = 0
        for batch in self._batches(asks):
            seeds = [(*seed, first + i) for i in range(len(batch))]
            first += len(batch)
            if any(ask.missing for ask in batch):
                yield await self._worker.run(self._sample, batch, seeds)

    def _batches(self, asks: Sequence[Ask]) -> list[list[Ask]]:
        """Consecutive questions under the token budget. A question with a video is alone: its
        frames are large, and how long they are is known only once they are decoded."""
        budget = self.config.student.sampler_batch_tokens
        batches: list[list[Ask]] = []
        longest = 0
        for ask in asks:
            length = self._length(ask)
            longest = max(longest, length)
            alone = any(m.kind == "video" for m in ask.item.question.media)
            rows = (len(batches[-1]) + 1) * ask.samples if batches else 0
            fits = rows * (longest + self.sampling.max_tokens) <= budget
            if batches and fits and not alone and batches[-1][-1].samples == ask.samples:
                batches[-1].append(ask)
            else:
                batches.append([ask])
                # Nothing joins a video.
                longest = budget if alone else length
        return batches

    def _length(self, ask: Ask) -> int:
        if any(m.kind == "video" for m in ask.item.question.media):
            return 0
        try:
            if ask.item.turns:
                return len(self._conversation(ask))
            return self.encoder.length(_prompt(ask))
        except (DataError, ModelError):
            return 0  # said when it is encoded

    def _encode(self, ask: Ask) -> EncodedPrompt:
        if ask.item.turns:
            return self._conversation(ask)
        return self.encoder.encode(_prompt(ask))

    def _conversation(self, ask: Ask) -> EncodedPrompt:
        """Several turns, text alone."""
        messages = [{"role": role, "content": text} for role, text in ask.item.turns]
        messages.append({"role": "user", "content": ask.text})
        text = self.loaded.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids = np.asarray(self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
        return EncodedPrompt(ids, np.zeros(len(ids), dtype=np.int64))

    def _sample(self, batch: Sequence[Ask], seeds: Sequence[Sequence[int]]) -> list[Answer]:
        encoded: list[tuple[Ask, EncodedPrompt, Sequence[int]]] = []
        answers: list[Answer] = []
        for ask, seed in zip(batch, seeds, strict=True):
            try:
                prompt = self._encode(ask)
                self._require_room(prompt)
                encoded.append((ask, prompt, seed))
            except (DataError, ModelError) as error:
                answers += [Answer(ask.item.id, k, error=str(error)) for k in ask.missing]
        if not encoded:
            return answers
        device = self.loaded.device
        groups = sample_groups(
            self.loaded.model.base_model,
            self.loaded.model.get_output_embeddings(),
            self.encoder.collate([prompt for _, prompt, _ in encoded], device),
            encoded[0][0].samples,
            self.sampling,
            self.loaded.stop_ids,
            self.encoder.placeholder_ids,
            [seed for *_, seed in encoded],
            self._worker.abandoned,
        )
        decode = self.loaded.tokenizer.decode
        for (ask, *_), group in zip(encoded, groups, strict=True):
            for k in ask.missing:
                ids = group.token_ids[k].tolist()
                text = decode(ids, skip_special_tokens=True)
                answers.append(Answer(ask.item.id, k, text, group.finished[k], len(ids)))
        return answers

    def _require_room(self, prompt: EncodedPrompt) -> None:
        if len(prompt) + self.sampling.max_tokens > self.context:
            raise DataError(
                f"prompt of {len(prompt)} tokens and evaluation.max_response_tokens="
                f"{self.sampling.max_tokens} exceed the context of {self.context}"
            )

    async def aclose(self) -> None:
        """Nothing is held between calls."""


class StudentModel:
    """A student in training, on its own engine, so that any engine can be measured."""

    def __init__(self, student: Student, config: Config, name: str) -> None:
        self.student, self.config, self.name = student, config, name

    def describe(self) -> dict[str, Any]:
        """See `Model.describe`."""
        return {"name": self.name, "engine": "student"}

    async def answer(self, asks: Sequence[Ask], seed: Sequence[int]) -> AsyncIterator[list[Answer]]:
        """See `Model.answer`. Raises `ConfigError` for conversations, which students do not
        hold."""
        turns = next((ask.item for ask in asks if ask.item.turns), None)
        if turns is not None:
            raise ConfigError(
                f"evaluation.benchmarks: {turns.question.source} is a conversation, which cannot "
                "be measured during training; evaluate a checkpoint with `zppo eval`."
            )
        waiting = [ask for ask in asks if ask.missing]
        rollouts = self.student.rollout(
            [_prompt(ask) for ask in waiting],
            waiting[0].samples if waiting else 1,
            seed,
            self.config.evaluation,
        )
        async for chunk in rollouts:
            yield [
                Answer(
                    waiting[i].item.id,
                    k,
                    responses[k].text,
                    responses[k].finished,
                    len(responses[k].token_ids),
                )
                for i, responses in chunk.items()
                for k in waiting[i].missing
            ]

    async def aclose(self) -> None:
        """The student is the run's."""


class EndpointModel:
    """A model behind an OpenAI-compatible endpoint, through the teachers' pool: retries,
    deadlines, limits, several samples a request."""

    def __init__(self, teacher: OpenAITeacher) -> None:
        self.teacher = teacher
        self.name = teacher.options.endpoints[0].model
        self._failures: dict[str, str] = {}

    def describe(self) -> dict[str, Any]:
        """See `Model.describe`."""
        return {
            "name": self.name,
            "engine": "endpoint",
            "url": [e.url for e in self.teacher.options.endpoints],
        }

    async def answer(self, asks: Sequence[Ask], seed: Sequence[int]) -> AsyncIterator[list[Answer]]:
        """See `Model.answer`. Seeds are sent by sample; whether a server keeps to them is its
        affair."""
        waiting = [ask for ask in asks if ask.missing]
        tasks = [asyncio.create_task(self._one(ask, tuple(seed))) for ask in waiting]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, ask: Ask, seed: tuple[int, ...]) -> list[Answer]:
        question = ask.item.question
        texts = await self.teacher.converse(
            question, ask.text, len(ask.missing), (*seed, ask.missing[0]), ask.item.turns
        )
        for failure in self.teacher.drain_failures():
            self._failures[failure.question_id] = failure.reason
        answers = [
            Answer(question.id, k, text) for k, text in zip(ask.missing, texts, strict=False)
        ]
        reason = self._failures.pop(question.id, "no answer")
        rest = ask.missing[len(texts) :]
        return answers + [Answer(question.id, k, error=reason) for k in rest]

    async def aclose(self) -> None:
        """Close its connections."""
        await self.teacher.aclose()


def endpoint_options(
    url: str,
    model: str,
    config: Config,
    api_key_env: str | None = None,
    concurrency: int = 32,
) -> OpenAITeacherConfig:
    """An endpoint asked with the decoding and the frame budget of `config`. Settings that are off
    are not sent, since vendors refuse fields that they do not know. Raises `ValidationError`."""
    evaluation = config.evaluation
    extra: dict[str, Any] = {}
    if evaluation.top_k:
        extra["top_k"] = evaluation.top_k
    if evaluation.presence_penalty:
        extra["presence_penalty"] = evaluation.presence_penalty
    return OpenAITeacherConfig.model_validate(
        {
            "endpoints": [
                {
                    "url": url,
                    "model": model,
                    "api_key_env": api_key_env,
                    "concurrency": concurrency,
                }
            ],
            "temperature": evaluation.temperature,
            "top_p": evaluation.top_p,
            "max_response_tokens": evaluation.max_response_tokens,
            "max_frames": config.data.max_frames,
            "extra_body": extra,
        }
    )


def _prompt(ask: Ask) -> Prompt:
    return Prompt(ask.item.question, GroupKind.PLAIN, ask.text)
