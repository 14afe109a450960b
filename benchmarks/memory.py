"""Peak memory of an update while one thing at a time doubles: `python benchmarks/memory.py`.

Each point is a process of its own: it builds a Llama-type student with random weights, takes one
tiny update (so that gradients and moments exist), notes its resident memory, and reports by how
much the peak of one real update lies above it. Linux only (VmHWM, reset through clear_refs).

What should be seen: no growth with prompts, the group size and responses once a step has more
tokens than a micro-batch; growth with the micro-batch budget, linear; growth with the vocabulary
only by the chunk of the head (`student.logprob_chunk_tokens`), never by tokens x vocabulary, shown
beside it; growth with the buffer by its questions alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Point:
    """One update. `micro` and `chunk` are tokens, `buffer` questions."""

    prompts: int = 8
    group: int = 8
    prompt: int = 128
    response: int = 128
    vocabulary: int = 32_768
    micro: int = 2_048
    chunk: int = 256
    buffer: int = 0


DOUBLED = {
    "prompts": (4, 8, 16),
    "group": (4, 8, 16),
    "response": (64, 128, 256),
    "vocabulary": (16_384, 32_768, 65_536),
    "micro": (1_024, 2_048, 4_096),
    "buffer": (5_000, 10_000, 20_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(DOUBLED))
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(Point(**json.loads(options.point)))))
        return
    print("one doubled        value   peak above model   tokens x vocabulary in fp32")
    for name, values in DOUBLED.items():
        if options.only not in (None, name):
            continue
        for value in values:
            point = replace(Point(), **{name: value})
            command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            peak = json.loads(done.stdout.splitlines()[-1])
            logits = point.prompts * point.group * point.response * point.vocabulary * 4
            print(f"{name:12} {value:11,} {peak / 2**20:14.0f} MiB {logits / 2**20:21.0f} MiB")


def measure(point: Point) -> int:
    """Bytes of the peak above what is resident before the update."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from zppo.algorithm.buffer import PromptReplayBuffer
    from zppo.config import load_config
    from zppo.lab.models import new_tokenizer
    from zppo.student.attention import share_attention
    from zppo.student.cpu import tune_for_cpu
    from zppo.student.loading import LoadedModel
    from zppo.student.local import LocalStudent
    from zppo.types import (
        Group,
        GroupKind,
        Prompt,
        Question,
        Response,
        Rollout,
        RolloutStatus,
    )

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=point.vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=4_096,
    )
    model = LlamaForCausalLM(shape)
    share_attention(shape)
    tune_for_cpu(model)
    tokenizer = new_tokenizer()
    config = load_config(
        None,
        [
            "method=grpo",
            "student.threads=1",
            f"student.micro_batch_tokens={point.micro}",
            f"student.logprob_chunk_tokens={point.chunk}",
            "optimizer.updates_per_step=1",
        ],
    )
    student = LocalStudent(LoadedModel(model.eval(), tokenizer, None, torch.device("cpu")), config)
    rng = np.random.default_rng(0)

    def groups(prompts: int, response: int) -> list[Group]:
        text = "7 " * 2_000
        cut = tokenizer.decode(student.encode(text)[: point.prompt - 12])
        made = []
        for i in range(prompts):
            prompt = Prompt(Question(str(i), cut, "1"), GroupKind.PLAIN, cut)
            ids = [rng.integers(10, 200, response) for _ in range(point.group)]
            rollouts = (
                Rollout(
                    Response(x, np.full(response, -5.0, np.float32), "", True),
                    0.0,
                    RolloutStatus.GRADED,
                )
                for x in ids
            )
            made.append(Group(prompt, tuple(rollouts)))
        return made

    def update(batch: list[Group]) -> None:
        advantages = np.tile([1.0, -1.0], len(batch) * point.group // 2)
        asyncio.run(student.update(batch, advantages, 1, (0,)))

    update(groups(1, 4))
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    buffer = PromptReplayBuffer(max(point.buffer, 1))
    if point.buffer:
        text = "How many of the items in the table are both red and round? " * 6
        questions = [Question(str(i), f"{i}: {text}", str(i)) for i in range(point.buffer)]
        buffer.update(questions, [0.0] * point.buffer, step=0)
    update(groups(point.prompts, point.response))
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}; this script needs Linux.")


if __name__ == "__main__":
    main()
