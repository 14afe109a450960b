"""What tests of the cluster engine share: a Ray with GPUs that are not there, configs, groups."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny
from zppo.algorithm.advantage import two_step_advantages
from zppo.config import Config, load_config
from zppo.lab.puzzles import questions
from zppo.rewards.grader import Grade
from zppo.runs.build import RunParts, build_run
from zppo.serialization import question_to_dict
from zppo.types import Group, Prompt, Response, Rollout, RolloutStatus

READY = os.environ.get("VERL_PLATFORM") == "cpu"
REASON = "needs verl's own environment: python tests/student/verl/cpu/run.py"

#: verl as it runs on a CPU: nothing that needs flash-attention or a compiler.
ON_CPU = [
    "trainer.device=cpu",
    "actor_rollout_ref.model.use_remove_padding=false",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    "actor_rollout_ref.actor.use_torch_compile=false",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=false",
]


#: vLLM's CPU build cannot sleep, and reads no prompt in parts.
VLLM_ON_CPU = [
    "actor_rollout_ref.rollout.free_cache_engine=false",
    "+actor_rollout_ref.rollout.enable_sleep_mode=false",
    "actor_rollout_ref.rollout.enforce_eager=true",
    "actor_rollout_ref.rollout.enable_chunked_prefill=false",
    "actor_rollout_ref.rollout.enable_prefix_caching=false",
    "actor_rollout_ref.rollout.max_num_seqs=16",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64",
    "actor_rollout_ref.rollout.load_format=auto",
]


@contextmanager
def ray_of_cpus() -> Iterator[None]:
    """A Ray that believes in GPUs."""
    import ray

    ray.init(
        num_cpus=4,
        num_gpus=2,
        object_store_memory=200_000_000,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def write_model(folder: Path, head_dim: int | None = None, kind: tiny.Kind = "llama") -> Path:
    """A tiny model of fp32 weights."""
    loaded = tiny.loaded(kind)
    model = loaded.model
    if head_dim is not None:  # vLLM knows few of them
        model.config.head_dim = head_dim
        model = type(model)(model.config)
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    if loaded.image_processor is not None:
        loaded.image_processor.save_pretrained(folder)
    return folder


def write_questions(file: Path, number: int = 24) -> Path:
    """Text puzzles of the lab, with worked solutions."""
    some = [q for q in questions("train") if not q.media][:number]
    rows = [question_to_dict(q) for q in some]
    keys = ("id", "text", "answer", "reference", "source")
    lines = [json.dumps({k: row[k] for k in keys if row.get(k)}) for row in rows]
    file.write_text("\n".join(lines).replace('"text"', '"question"') + "\n")
    return file


def overrides(*more: str) -> str:
    """What `verl.overrides` must be on a CPU."""
    return json.dumps([*ON_CPU, *more])


def config(model: Path, ranks: int, *more: str, method: str = "grpo") -> Config:
    return load_config(
        None,
        [
            f"method={method}",
            "teacher.kind=scripted",
            f"student.model={model}",
            "student.engine=verl",
            "student.dtype=fp32",
            "student.threads=1",
            f"verl.n_gpus_per_node={ranks}",
            "verl.rollout=hf",
            "verl.worker_timeout=900",
            "verl.request_timeout=300",
            "verl.fingerprint_tolerance=1e-4",
            f"verl.overrides={overrides()}",
            "data.max_prompt_tokens=512",
            "data.validation=null",
            "rollout.max_response_tokens=12",
            "evaluation.max_response_tokens=12",
            "run.prompts_per_step=6",
            "run.tensorboard=false",
            "algorithm.group_size=4",
            "algorithm.rho_aug=0.5",
            "algorithm.candidate_max_tokens=32",
            "optimizer.updates_per_step=2",
            "optimizer.lr=1e-3",
            *more,
        ],
    )


def same_engine(student: Any, grader: Any) -> Callable[[Config], RunParts]:
    """A `build` for runs on a student that is up already: the start of one takes a minute."""

    def build(config: Config) -> RunParts:
        # The lab's tiny student stands in while the parts are made.
        local = config.student.model_copy(update={"engine": "local"})
        parts = build_run(config.model_copy(update={"student": local}))
        return replace(parts, step=replace(parts.step, student=student, grader=grader))

    return build


class Stays:
    """A student whose engine outlives the run that it is used in."""

    def __init__(self, student: Any) -> None:
        self.student = student

    def __getattr__(self, name: str) -> Any:
        return getattr(self.student, name)

    def close(self) -> None: ...


class LikesVowels:
    """A reward that a model without any knowledge can earn: the share of vowels decides."""

    async def grade(self, items: Sequence[Any]) -> list[Grade]:
        return [Grade(_vowels(r.text), RolloutStatus.GRADED, "v") for _, r in items]


def _vowels(text: str) -> bool:
    return sum(text.count(vowel) for vowel in "aeiou") >= 0.25 * max(len(text), 1)


async def sample(student: Any, prompts: Sequence[Prompt], n: int, *seed: int) -> list[Any]:
    found: dict[int, tuple[Response, ...]] = {}
    async for chunk in student.rollout(prompts, n, seed):
        found |= chunk
    return [found[i] for i in range(len(prompts))]


def groups_of(prompts: Sequence[Prompt], responses: Sequence[Any], seed: int) -> list[Group]:
    """Groups with rewards by lot."""
    rng = np.random.default_rng(seed)
    return [
        Group(
            prompt,
            tuple(Rollout(r, float(rng.random() < 0.5), RolloutStatus.GRADED) for r in some),
        )
        for prompt, some in zip(prompts, responses, strict=True)
    ]


def advantages_of(groups: Sequence[Group]) -> np.ndarray:
    return two_step_advantages(
        [r.reward for g in groups for r in g.rollouts],
        [i for i, g in enumerate(groups) for _ in g.rollouts],
    )


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
