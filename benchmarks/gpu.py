"""Rollout and update of a 0.8B student on one GPU: `python benchmarks/gpu.py`.

Qwen3.5-0.8B's geometry with random weights in bf16, text only; one call, a few minutes. It prints
tokens a second of rollout and of update, the update's MFU and peak memory, and, where TRL can be
imported, a TRL GRPO step on the same model, prompts and lengths. `--tiny` runs the same code with
two small layers on whatever is there, to see that it works; its figures mean nothing.

MFU counts what the mathematics asks for once: 6 FLOPs a parameter and token of the body (prompts
once a group), 6 a parameter of the LM head and response token, 12 a head dimension, query and key
of full attention; nothing for recomputation. Peak: `--peak` in TFLOP/s, dense bf16 (H100 and H200
SXM: 989).
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from zppo.config import Config, load_config
from zppo.lab.models import new_tokenizer, special_ids
from zppo.student.attention import share_attention
from zppo.student.cpu import tune_for_cpu
from zppo.student.loading import LoadedModel
from zppo.student.local import LocalStudent
from zppo.types import Group, GroupKind, Prompt, Question, Response, Rollout, RolloutStatus


def geometry(tiny: bool, ids: dict[str, int]) -> Qwen3_5TextConfig:
    shape: dict[str, Any] = (
        {
            "vocab_size": 1_024,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "layer_types": ["linear_attention", "full_attention"],
        }
        if tiny
        else {
            "vocab_size": 248_320,
            "hidden_size": 1_024,
            "intermediate_size": 3_584,
            "num_hidden_layers": 24,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 16,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 6,
        }
    )
    return Qwen3_5TextConfig(
        **shape,
        tie_word_embeddings=True,
        pad_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
    )


def new_student(device: torch.device, config: Config, tiny: bool) -> LocalStudent:
    tokenizer = new_tokenizer()
    torch.manual_seed(0)
    shape = geometry(tiny, special_ids(tokenizer))
    with torch.device(device):
        model: Any = Qwen3_5ForCausalLM(shape).to(torch.bfloat16)
    share_attention(shape)
    if device.type == "cpu":
        tune_for_cpu(model)
    student = LocalStudent(LoadedModel(model.eval(), tokenizer, None, device), config)
    # No response may end early: every run samples the same number of tokens.
    student.encoder.placeholder_ids = student.loaded.stop_ids
    return student


def timed(call: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, Any]:
    """The fastest of `repeats` calls after one that warms up, in seconds, and its result."""
    best, result = float("inf"), call()
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        result = call()
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return best, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def update_flops(student: LocalStudent, prompts: int, P: int, G: int, T: int) -> float:
    shape = student.model.config
    head = shape.vocab_size * shape.hidden_size
    body = sum(p.numel() for p in student.model.parameters()) - head
    tokens = prompts * (P + G * T)
    pairs = prompts * (P * P / 2 + G * T * (P + T / 2))
    layers = shape.layer_types.count("full_attention")
    attention = 12 * shape.num_attention_heads * shape.head_dim * layers * pairs
    return 6 * body * tokens + 6 * head * prompts * G * T + attention


def rollout(student: LocalStudent, prompts: list[Prompt], n: int) -> list[Group]:
    async def run() -> dict[int, tuple[Response, ...]]:
        found: dict[int, tuple[Response, ...]] = {}
        async for chunk in student.rollout(prompts, n, (0,)):
            found |= chunk
        return found

    found = asyncio.run(run())
    return [
        Group(p, tuple(Rollout(r, 0.0, RolloutStatus.GRADED) for r in found[i]))
        for i, p in enumerate(prompts)
    ]


def trl_step(student: LocalStudent, prompts: list[Prompt], n: int, tokens: int) -> float | None:
    """Seconds of a TRL GRPO step with `generate`, or None where TRL is not installed."""
    try:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    except ImportError:
        return None
    import tempfile

    steps: list[float] = []

    def reward(completions: list[Any], **_: Any) -> list[float]:
        steps.append(time.perf_counter())
        return [float(i % 2) for i in range(len(completions))]

    student.model.config._attn_implementation = "sdpa"
    with tempfile.TemporaryDirectory() as folder:
        options = GRPOConfig(
            output_dir=folder, max_steps=3, num_generations=n, max_completion_length=tokens,
            per_device_train_batch_size=n, gradient_accumulation_steps=len(prompts),
            beta=0.0, bf16=True, use_cpu=not torch.cuda.is_available(), report_to=[],
            save_strategy="no", logging_steps=1_000,
        )  # fmt: skip
        rows = [{"prompt": [{"role": "user", "content": p.text}]} for p in prompts] * 3
        trainer = GRPOTrainer(
            model=student.model, args=options, train_dataset=Dataset.from_list(rows),
            processing_class=student.tokenizer, reward_funcs=reward,
        )  # fmt: skip
        trainer.train()
    # From one call of the reward to the next lie an update and a rollout: one step.
    return min(b - a for a, b in pairwise(steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=1_000)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--micro", type=int, default=32_768)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peak", type=float, default=989.0)
    o = parser.parse_args()
    if o.tiny:
        o.prompts, o.prompt_tokens, o.tokens, o.repeats = 2, 60, 12, 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not o.tiny:
        raise SystemExit("torch sees no GPU; --tiny shows on a CPU that the script runs.")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, transformers {version('transformers')}")
    config = load_config(
        None,
        [
            "method=grpo", f"rollout.max_response_tokens={o.tokens}", "student.dtype=bf16",
            f"student.micro_batch_tokens={o.micro}", "optimizer.updates_per_step=1",
        ],
    )  # fmt: skip
    student = new_student(device, config, o.tiny)
    text = student.decode(student.encode("7 " * 4 * o.prompt_tokens)[: o.prompt_tokens])
    prompts = [
        Prompt(Question(str(i), text, "1"), GroupKind.PLAIN, f"{i} {text}")
        for i in range(o.prompts)
    ]
    P = student.prompt_tokens(prompts[0])
    sampled = o.prompts * o.group * o.tokens

    seconds, groups = timed(lambda: rollout(student, prompts, o.group), device, o.repeats)
    print(f"rollout  {o.prompts} x {o.group} x {o.tokens} after {P} tokens: {seconds:.2f} s, "
          f"{sampled / seconds:,.0f} tokens/s")  # fmt: skip

    advantages = np.tile([1.0, -1.0], sampled // o.tokens // 2)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    update, _ = timed(
        lambda: asyncio.run(student.update(groups, advantages, 1, (0,))), device, o.repeats
    )
    rate = update_flops(student, o.prompts, P, o.group, o.tokens) / update / 1e12
    print(f"update   {update:.2f} s, {sampled / update:,.0f} response tokens/s, "
          f"{rate:.2f} TFLOP/s, MFU {rate / o.peak:.1%}, with the old log-probs")  # fmt: skip
    if device.type == "cuda":
        print(f"peak     {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")

    theirs = trl_step(student, prompts, o.group, o.tokens)
    if theirs is None:
        print("TRL      not installed here")
    else:
        ours = seconds + update
        print(f"TRL      {theirs:.2f} s a step, ours {ours:.2f} s: {theirs / ours:.1f}x")


if __name__ == "__main__":
    main()
