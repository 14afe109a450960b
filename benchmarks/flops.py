"""The FLOP rate of the training phase against plain products: `python benchmarks/flops.py`.

One update of SmolLM2-135M on made-up responses. A first, untimed pass records the shape of every
product that runs, forward, backward and recomputed; further passes are timed. Then each shape is
timed by itself, as one product of two dense matrices, with torch's default (MKL or OpenBLAS) and
with oneDNN. What is counted is in README.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from environments import CACHE, make_trl, one_line_smollm2
from lengths import SHARES
from machine import hardware, load
from plan import Job
from prompts import text_prompts
from transformers import AutoTokenizer
from zppo_worker import question, settings

from zppo.algorithm.prompts import Templates
from zppo.student.local import LocalStudent
from zppo.types import Group, GroupKind, Prompt, Response, Rollout, RolloutStatus

aten = torch.ops.aten
#: (M, K, N) of a product of (M, K) and (K, N).
Shape = tuple[int, int, int]


class Products(TorchDispatchMode):
    """Counts dense products by shape, and the FLOPs of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[Shape] = Counter()
        self.batched = 0.0
        self.attention = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        match func.overloadpacket:
            case aten.mm:
                self._dense(args[0], args[1].shape[1])
            case aten.addmm:
                self._dense(args[1], args[2].shape[1])
            case torch.ops.mkldnn._linear_pointwise:
                self._dense(args[0], args[1].shape[0])
            case aten.bmm:
                self.batched += 2.0 * args[0].numel() * args[1].shape[-1]
            case aten.baddbmm:
                self.batched += 2.0 * args[1].numel() * args[2].shape[-1]
            case aten._scaled_dot_product_flash_attention_for_cpu:
                self.attention += _attention(args[0], args[1], _causal(args, kwargs, 4))
            case aten._scaled_dot_product_flash_attention_for_cpu_backward:
                # Five products of the size of the forward pass's two.
                self.attention += 2.5 * _attention(args[1], args[2], _causal(args, kwargs, 7))
            case _:
                pass
        return func(*args, **(kwargs or {}))

    def _dense(self, left: Any, N: int) -> None:
        M, K = left.shape
        self.shapes[M, K, N] += 1

    @property
    def dense(self) -> float:
        return sum(2.0 * M * K * N * count for (M, K, N), count in self.shapes.items())

    @property
    def total(self) -> float:
        return self.dense + self.batched + self.attention


def _causal(args: Any, kwargs: Any, place: int) -> bool:
    return bool(args[place] if len(args) > place else (kwargs or {}).get("is_causal", False))


def _attention(query: Any, key: Any, causal: bool) -> float:
    B, heads, S, D = query.shape
    return 4.0 * B * heads * S * key.shape[-2] * D / (2 if causal else 1)


def made_up(job: Job, student: LocalStudent) -> tuple[list[Group], np.ndarray]:
    """The job's prompts with random tokens as responses, of ragged lengths, and advantages of
    which none is zero."""
    rng = np.random.default_rng(0)
    vocabulary = student.loaded.model.config.vocab_size
    templates = Templates.default()
    groups: list[Group] = []
    for number, row in enumerate(job.prompts):
        asked = question(number, row)
        rollouts = []
        for share in SHARES:
            length = round(share * job.max_new_tokens)
            ids = rng.integers(3, vocabulary, length)
            logprobs = np.full(length, -np.log(vocabulary), np.float32)
            response = Response(ids, logprobs, "", share < 1.0)
            rollouts.append(Rollout(response, 0.0, RolloutStatus.GRADED))
        prompt = Prompt(asked, GroupKind.PLAIN, templates.plain(asked))
        groups.append(Group(prompt, tuple(rollouts)))
    signs = np.where(np.arange(len(groups) * len(SHARES)) % 2, 1.0, -1.0)
    return groups, signs


def timed_update(student: LocalStudent, groups: list[Group], advantages: np.ndarray) -> float:
    """Seconds of one update, forward pass to optimiser."""
    start = time.perf_counter()
    student.trainer.update(groups, advantages, 1, (0,))
    return time.perf_counter() - start


def needed(groups: list[Group], student: LocalStudent) -> float:
    """FLOPs without padding and without recomputation: 6 a weight and token of each prompt once
    and of each response; the LM head on response tokens alone; attention left out."""
    model = student.loaded.model
    head = model.get_output_embeddings().weight.numel()
    inside = sum(p.numel() for p in model.base_model.layers.parameters() if p.ndim == 2)
    prompts = sum(student.prompt_tokens(g.prompt) for g in groups)
    responses = sum(len(r.response.token_ids) for g in groups for r in g.rollouts)
    return 6.0 * (inside * (prompts + responses) + head * responses)


def seconds_of(product: Any, least: float = 0.05) -> float:
    """The fastest of at least three runs and `least` seconds, after one to warm up."""
    product()
    spent: list[float] = []
    while len(spent) < 3 or sum(spent) < least:
        start = time.perf_counter()
        product()
        spent.append(time.perf_counter() - start)
    return min(spent)


def reference(shapes: Counter[Shape], dtype: torch.dtype) -> dict[str, float]:
    """Seconds that all products take one by one: torch's default, oneDNN, the better of both."""
    sums = {"torch.mm": 0.0, "oneDNN": 0.0, "the faster": 0.0}
    for (M, K, N), count in shapes.items():
        a, b = torch.randn(M, K).to(dtype), torch.randn(K, N).to(dtype)
        out = torch.empty(M, N, dtype=dtype)
        transposed = b.t().contiguous()

        def onednn(a: Any = a, transposed: Any = transposed) -> Any:
            return torch.ops.mkldnn._linear_pointwise(a, transposed, None, "none", [], "")

        default = seconds_of(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        other = seconds_of(onednn)
        sums["torch.mm"] += count * default
        sums["oneDNN"] += count * other
        sums["the faster"] += count * min(default, other)
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--prompt-tokens", type=int, action="append", help="default: 300, 1000")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cache", type=Path, default=CACHE, help="environment and model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    place = args.cache / "smollm2-135m-one-line"
    ready = (place / "config.json").is_file()
    model = place if ready else one_line_smollm2(make_trl(args.cache / "trl"), place)
    tokenizer = AutoTokenizer.from_pretrained(model)
    print(f"{hardware()}; {args.threads} thread(s); torch {torch.__version__}; {load()}\n")
    print(
        "| prompts, dtype | seconds an update (range) | executed TFLOP | rate, GFLOP/s "
        "| torch.mm, GFLOP/s | oneDNN | rate / the faster | without padding, recomputation "
        "| products' own share of the time |\n|---|---|---|---|---|---|---|---|---|"
    )
    for tokens in args.prompt_tokens or (300, 1_000):
        rows, longest = text_prompts(args.prompts, tokens, tokenizer, 0)
        job = Job(
            str(model), args.dtype, args.threads, tuple(rows), args.prompts, 8, 128, 0, 1, 1,
            4_096, longest, 0, 1e-6, 0,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)  # a folder named like a recipe would be taken for it
            student = LocalStudent.from_config(settings(job))
            os.chdir("/")
        groups, advantages = made_up(job, student)

        with Products() as products:
            timed_update(student, groups, advantages)
        spent = sorted(timed_update(student, groups, advantages) for _ in range(args.passes))
        seconds = statistics.median(spent)
        alone = reference(products.shapes, student.model.dtype)
        rate = products.total / seconds
        best = products.dense / alone["the faster"]
        print(
            f"| {args.prompts} of {tokens:,}, {args.dtype} "
            f"| {seconds:.1f} ({spent[0]:.1f} to {spent[-1]:.1f}) "
            f"| {products.total / 1e12:.2f} (attention {products.attention / products.total:.0%}) "
            f"| {rate / 1e9:.0f} | {products.dense / alone['torch.mm'] / 1e9:.0f} "
            f"| {products.dense / alone['oneDNN'] / 1e9:.0f} | {rate / best:.0%} "
            f"| {needed(groups, student) / seconds / best:.0%} "
            f"| {alone['the faster'] / seconds:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
