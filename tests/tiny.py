"""Tiny models of three kinds, built in memory: a Llama, a Qwen3.5 text hybrid, a Qwen3.5 VLM."""

from __future__ import annotations

import functools
import io
from typing import Any, Literal

import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3_5ForCausalLM

from zppo.config import Config, load_config
from zppo.lab import models
from zppo.student.attention import share_attention
from zppo.student.cpu import tune_for_cpu
from zppo.student.loading import LoadedModel
from zppo.student.local import LocalStudent
from zppo.types import GroupKind, Media, Prompt, Question

Kind = Literal["llama", "hybrid", "vlm"]


@functools.cache
def tokenizer() -> Any:
    return models.new_tokenizer()


def loaded(kind: Kind, seed: int = 0, dtype: torch.dtype = torch.float32) -> LoadedModel:
    torch.manual_seed(seed)
    ids = models.special_ids(tokenizer())
    size = len(tokenizer())
    processor = None
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=size,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=ids["<|endoftext|>"],
            bos_token_id=None,
            eos_token_id=ids["<|im_end|>"],
        )
        model: Any = LlamaForCausalLM(config)
    else:
        shape = models.Shape(
            hidden=48,
            mlp=96,
            heads=2,
            layers=(models.LINEAR, models.LINEAR, models.FULL),
            vision_hidden=32,
        )
        model = models.new_model(shape, size, ids)
        processor = models.image_processor()
        if kind == "hybrid":
            model = Qwen3_5ForCausalLM(model.config.text_config)
            processor = None
    with torch.no_grad():  # default initialisation is nearly uniform; make tokens matter
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "conv1d" not in name:
                parameter.mul_(4.0)
    share_attention(model.config)
    tune_for_cpu(model)
    return LoadedModel(model.to(dtype).eval(), tokenizer(), processor, torch.device("cpu"))


def config(*overrides: str, method: str = "zppo") -> Config:
    base = [
        f"method={method}",
        "student.threads=1",
        "student.dtype=fp32",
        "rollout.max_response_tokens=12",
        "run.prompts_per_step=8",
        "algorithm.group_size=4",
        "optimizer.updates_per_step=2",
    ]
    return load_config(None, [*base, *overrides])


def student(kind: Kind, *overrides: str, seed: int = 0, **kwargs: Any) -> LocalStudent:
    return LocalStudent(loaded(kind, seed, **kwargs), config(*overrides))


def png(width: int, height: int, seed: int = 0) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 255, (height, width, 3), generator=generator, dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = Media("image", (png(48, 16),))
VIDEO = Media("video", tuple(png(16, 16, seed) for seed in range(1, 5)), fps=2.0)


def prompt(text: str, *media: Media, name: str = "q", answer: str = "1") -> Prompt:
    return Prompt(Question(name, text, answer, media=media), GroupKind.PLAIN, text)


def prompts(kind: Kind) -> list[Prompt]:
    """Prompts of different lengths; with image, with video and without for the VLM."""
    if kind == "vlm":
        return [
            prompt("Add the digits of the picture, please.", IMAGE, name="a"),
            prompt("And the video?", VIDEO, name="b"),
            prompt("1 + 2 = ?", name="c"),
        ]
    return [
        prompt("What is 3 + 8 + 5 mod 10? Think first.", name="a"),
        prompt("1 + 2 = ?", name="b"),
        prompt("Sort 5 2 9 and say why.", name="c"),
    ]
