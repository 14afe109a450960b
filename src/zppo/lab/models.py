"""The lab's models: Qwen3.5's architecture at a millionth of its usual cost, built from nothing.

A folder written here is an ordinary checkpoint: weights, `Qwen3_5Tokenizer`, chat template and
image processor load with plain `from_pretrained`, without network access.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_5.tokenization_qwen3_5 import PRETOKENIZE_REGEX, Qwen3_5Tokenizer

from zppo.algorithm.prompts import Templates
from zppo.lab.puzzles import CELL, puzzle
from zppo.student.thread import use_threads

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
#: Part of the text, as in Qwen's vocabulary: kept when a response is decoded.
THINK_TOKENS = ("<think>", "</think>")
VOCAB_SIZE = 480
PATCH = CELL // 2  # two by two patches make one visual token
CONTEXT = 2_048
#: Families and levels of the puzzles on which the tokenizer is trained.
CORPUS = tuple((f, n) for f in ("text", "image", "video") for n in (4, 8))

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for item in message.content -%}
{%- if item.type == 'image' or 'image' in item -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif item.type == 'video' or 'video' in item -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in item -%}
{{- item.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a lab model. `layers` names the kind of each decoder layer."""

    hidden: int
    mlp: int
    heads: int
    layers: tuple[str, ...]
    vision_hidden: int = 48


LINEAR, FULL = "linear_attention", "full_attention"
#: By the name of the recipe.
SHAPES: dict[str, Shape] = {
    name: Shape(hidden=96, mlp=288, heads=3, layers=(LINEAR, FULL, FULL))
    for name in ("student", "teacher", "habit")
}


def new_model(shape: Shape, vocab_size: int, ids: dict[str, int]) -> Any:
    """A freshly initialised model; torch's global generator decides its weights."""
    model = Qwen3_5ForConditionalGeneration(_config(shape, vocab_size, ids))
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    return model


def _config(shape: Shape, vocab_size: int, ids: dict[str, int]) -> Qwen3_5Config:
    linear_heads, head_dim = 2, 32
    text = {
        "vocab_size": vocab_size,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": len(shape.layers),
        "layer_types": list(shape.layers),
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": head_dim,
        "linear_num_key_heads": linear_heads,
        "linear_num_value_heads": linear_heads,
        "linear_key_head_dim": head_dim,
        "linear_value_head_dim": head_dim,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 1.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": 1,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": 2 * shape.vision_hidden,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "out_hidden_size": shape.hidden,
        "num_position_embeddings": 64,
    }
    return Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def image_processor() -> Qwen2VLImageProcessorPil:
    """Patches of the lab's sizes. The bounds let every puzzle through without resizing."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=2,
        temporal_patch_size=1,
        min_pixels=CELL * CELL,
        max_pixels=64 * CELL * CELL,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def new_tokenizer() -> Qwen3_5Tokenizer:
    """A byte-level BPE trained on the lab's prompts. Digits stay single tokens (Qwen's rule)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS) - len(THINK_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(), trainer)
    vocab = bpe.get_vocab()
    merges = _merges(bpe)
    tokenizer = Qwen3_5Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    tokenizer.add_tokens(list(THINK_TOKENS))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _merges(bpe: Tokenizer) -> Any:
    return [(a, b) for a, b in json.loads(bpe.to_str())["model"]["merges"]]


def _corpus() -> list[str]:
    """Every wording a lab model reads or writes."""
    templates = Templates.default()
    some = [puzzle(f, n, f"corpus/{i}") for f, n in CORPUS for i in range(8)]
    texts: list[str] = []
    for question in some:
        reference = question.reference or ""
        body = reference.removeprefix("<think>\n").replace("</think>\n", "")
        texts += [
            templates.plain(question),
            templates.bcq(question, [body, body]),
            templates.ncq(question, [question.answer, "7"], [body]),
            templates.hint(question, "Keep a running total. Start with 3, then add 8, and so on."),
            reference,
            "user\n",
            "assistant\n",
            "<0.0 seconds>",
        ]
    return texts


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Token ids of the special tokens by name."""
    return {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a checkpoint that plain `from_pretrained` loads, in fp32."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes it for the owner alone
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)


def limit_threads() -> None:
    """One thread and no denormals: the fastest setting for models this small."""
    use_threads(1)
