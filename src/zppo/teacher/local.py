"""A frozen transformers model in this process as the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zppo.config import Config, LocalTeacherConfig
from zppo.student.inputs import EncodedPrompt, PromptEncoder
from zppo.student.loading import LoadedModel, load_model
from zppo.student.prefix import can_share_prompt, response_hidden
from zppo.student.sampler import Sampling, sample_groups
from zppo.student.thread import ModelThread
from zppo.teacher.base import TeacherRequest
from zppo.types import GroupKind, Prompt, Question


class LocalTeacher:
    """Implements `zppo.teacher.base.Teacher`. Answers questions at the set temperature and text
    tasks (compression, hints) at that of the request, one for the whole batch."""

    def __init__(self, loaded: LoadedModel, config: Config, options: LocalTeacherConfig):
        self.loaded, self.options = loaded, options
        self.loaded.model.requires_grad_(False)
        arguments = options.template_arguments
        self.encoder = _encoder(loaded, config, arguments)
        self.task_encoder = _encoder(loaded, config, arguments | options.task_template_arguments)
        # One thread: questions of several rollout chunks are asked at once, and models running
        # side by side are slower than one after the other and need the memory of all.
        self._worker = ModelThread("zppo-teacher", config.student.threads)

    @classmethod
    def from_config(cls, config: Config) -> LocalTeacher:
        """Load the teacher that `config.teacher` names. Raises `ModelError`."""
        options = config.teacher
        assert isinstance(options, LocalTeacherConfig)
        return cls(load_model(options.model, options.device, options.dtype), config, options)

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """See `Teacher.sample`."""
        rule = Sampling(
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            max_tokens=self.options.max_response_tokens,
        )
        asked = [Prompt(question, GroupKind.PLAIN, text) for question, text in prompts]
        return await self._worker.run(self._answer, self.encoder, asked, n, rule, seed)

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """See `Teacher.complete`."""
        asked = [
            # The response to work on is text; the question's media would not help compress it.
            Prompt(Question(r.question.id, r.prompt, ""), GroupKind.PLAIN, r.prompt)
            for r in requests
        ]
        if not asked:
            return []
        rule = Sampling(
            temperature=max(r.temperature for r in requests),
            max_tokens=max(r.max_tokens for r in requests),
        )
        replies = await self._worker.run(self._answer, self.task_encoder, asked, 1, rule, seed)
        return [texts[0] for texts in replies]

    def check_questions(self, questions: Sequence[Question]) -> None:
        """See `ChecksQuestions`."""
        for question in questions:
            self.encoder.refuse_media(question)

    # -- what distillation reads; called by the student's thread, while no answer is asked for -----

    @property
    def vocabulary_size(self) -> int:
        """See `ReadsTokens.vocabulary_size`."""
        return self.loaded.model.get_input_embeddings().num_embeddings

    @torch.no_grad()
    def hidden(
        self, prompts: Sequence[EncodedPrompt], rows: Tensor, responses: Tensor, lengths: Tensor
    ) -> Tensor:
        """See `ReadsTokens.hidden`. Pictures go through this model's own vision tower."""
        device = self.loaded.device
        return response_hidden(
            self.loaded.model.base_model,
            self.encoder.collate(prompts, device),
            rows.to(device),
            responses.to(device),
            lengths.to(device),
            can_share_prompt(self.loaded.model.config),
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """See `ReadsTokens.logits`."""
        return self.loaded.model.get_output_embeddings()(hidden)

    def _answer(
        self,
        encoder: PromptEncoder,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        seed: Sequence[int],
    ) -> list[list[str]]:
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        encoded = encoder.encode_all(prompts)
        answers: list[list[str]] = [[] for _ in prompts]
        size = max(
            1,
            self.options.sampler_batch_tokens
            // (n * (max((len(e) for e in encoded), default=1) + sampling.max_tokens)),
        )
        order = sorted(range(len(prompts)), key=lambda i: (len(encoded[i]), i))
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            groups = sample_groups(
                model.base_model,
                model.get_output_embeddings(),
                encoder.collate([encoded[i] for i in batch], self.loaded.device),
                n,
                sampling,
                self.loaded.stop_ids,
                encoder.placeholder_ids,
                [(*seed, i) for i in batch],
                self._worker.abandoned,
            )
            for i, group in zip(batch, groups, strict=True):
                answers[i] = [
                    tokenizer.decode(ids.tolist(), skip_special_tokens=True)
                    for ids in group.token_ids
                ]
        return answers


def _encoder(
    loaded: LoadedModel, config: Config, template_arguments: Mapping[str, Any]
) -> PromptEncoder:
    return PromptEncoder.configured(
        loaded.tokenizer,
        loaded.model,
        loaded.image_processor,
        config.data,
        template_arguments=template_arguments,
    )
