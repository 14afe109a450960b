"""Sampling a lab model outside a training run: the engine's own prompt encoder and sampler."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from zppo.lab.models import image_processor
from zppo.student.inputs import EncodedPrompt, PromptEncoder
from zppo.student.sampler import Sampling, sample_groups
from zppo.types import GroupKind, Prompt, Question

MAX_TOKENS = 72
BATCH_TOKENS = 64_000


def sample_texts(
    model: Any, tokenizer: Any, asked: Sequence[tuple[Question, str]], n: int, seed: str
) -> list[list[str]]:
    """`n` responses at temperature 1 to each (question, user-turn text), in order."""
    encoder = PromptEncoder(tokenizer, model, image_processor())
    encoded = [encoder.encode(Prompt(q, GroupKind.PLAIN, text)) for q, text in asked]
    digest = hashlib.sha256(seed.encode()).digest()
    number = int.from_bytes(digest[:6], "big")
    device = next(model.parameters()).device
    texts: list[list[str]] = [[] for _ in asked]
    model.eval()
    for batch in _batches(encoded, n):
        groups = sample_groups(
            model.model,
            model.lm_head,
            encoder.collate([encoded[i] for i in batch], device),
            n,
            Sampling(max_tokens=MAX_TOKENS),
            [tokenizer.eos_token_id],
            encoder.placeholder_ids,
            [(number, i) for i in batch],
        )
        for i, group in zip(batch, groups, strict=True):
            texts[i] = tokenizer.batch_decode(group.token_ids, skip_special_tokens=True)
    model.train()
    return texts


def _batches(encoded: Sequence[EncodedPrompt], n: int) -> list[list[int]]:
    """Prompts of like length together, so that little is padded."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    batches: list[list[int]] = [[]]
    for i in order:
        if (len(batches[-1]) + 1) * n * (len(encoded[i]) + MAX_TOKENS) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    return [b for b in batches if b]
