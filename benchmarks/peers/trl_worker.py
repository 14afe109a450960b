"""The peer's side: TRL's GRPOTrainer as its users run it. `python trl_worker.py JOB RESULT`.

Runs in TRL's own environment. Options that only make TRL slower on this machine are off: activation
checkpointing (on by default), logging to trackers, checkpoints. Rows of one micro-batch are as many
as fit under the job's tokens, as on the other side.
"""

from __future__ import annotations

import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any

import torch
from lengths import Schedule, control_generate
from plan import Job, Measured, clocked, read_job, write_result
from vision import stand_in_for_vision_operators

_operators = stand_in_for_vision_operators()

from datasets import Dataset, Features, Image, Sequence, Value  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    TrainerCallback,
)
from trl import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    GRPOConfig,
    GRPOTrainer,
)


def load(job: Job) -> tuple[Any, Any]:
    """Model, and tokenizer or processor."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.dtype]
    tokenizer = AutoTokenizer.from_pretrained(job.model, padding_side="left")
    if not hasattr(AutoConfig.from_pretrained(job.model), "vision_config"):
        return AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype), tokenizer
    images = AutoImageProcessor.from_pretrained(job.model, backend="pil")
    videos = Qwen3VLVideoProcessor(
        patch_size=images.patch_size,
        temporal_patch_size=images.temporal_patch_size,
        merge_size=images.merge_size,
    )
    processor = Qwen3VLProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)
    return AutoModelForImageTextToText.from_pretrained(job.model, dtype=dtype), processor


def dataset(job: Job) -> Dataset:
    """Rows in the order of the job; `number` is what the reward is told by."""
    if not any(row.image for row in job.prompts):
        turns = [[{"role": "user", "content": row.turn}] for row in job.prompts]
        return Dataset.from_list([{"prompt": t, "number": i} for i, t in enumerate(turns)])
    turns = [
        [
            {
                "role": "user",
                "content": [{"type": "image", "text": None}, {"type": "text", "text": row.turn}],
            }
        ]
        for row in job.prompts
    ]
    part = {"type": Value("string"), "text": Value("string")}
    return Dataset.from_list(
        [
            {"prompt": turn, "number": i, "images": [job.prompts[i].image]}
            for i, turn in enumerate(turns)
        ],
        features=Features(
            prompt=[{"role": Value("string"), "content": [part]}],
            number=Value("int64"),
            images=Sequence(Image()),
        ),
    )


def settings(job: Job, folder: str) -> GRPOConfig:
    longest = job.prompt_tokens + job.max_new_tokens
    rows = job.rows // job.updates  # of one optimiser update
    micro = max(
        n
        for n in range(1, rows + 1)
        if rows % n == 0 and (n * longest <= job.micro_tokens or n == 1)
    )
    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=job.dtype == "bf16",
        seed=job.seed,
        max_steps=(job.warmup + job.steps) * job.updates,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rows // micro,
        generation_batch_size=job.rows,
        num_generations=job.group_size,
        max_completion_length=job.max_new_tokens,
        shuffle_dataset=False,
        temperature=1.0,
        learning_rate=job.lr,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        adam_beta2=0.999,
        max_grad_norm=1.0,
        loss_type="dapo",
        epsilon=0.2,
        epsilon_high=0.28,
        beta=0.0,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class Clock(TrainerCallback):
    """Seconds between the first and the last update of each rollout step."""

    def __init__(self, job: Job):
        self.job = job
        self.steps: list[Measured] = [Measured()]
        self.began = (0.0, 0.0)

    @property
    def now(self) -> Measured:
        return self.steps[-1]

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.job.updates == 0:
            if state.global_step:
                self.steps.append(Measured())
            self.began = (time.perf_counter(), time.process_time())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.job.updates == 0:
            wall, cpu = self.began
            self.now.seconds = time.perf_counter() - wall
            self.now.cpu_seconds = time.process_time() - cpu
            self.now.update_seconds = self.now.seconds - self.now.sampling_seconds

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "grad_norm" in logs:
            self.now.grad_norms.append(float(logs["grad_norm"]))


def main() -> None:
    job = read_job(sys.argv[1])
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)  # what the other side sets; it makes linear attention faster
    model, processing = load(job)
    clock = Clock(job)
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    control_generate(Schedule(job.max_new_tokens, stops))

    def reward(completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        clock.now.tokens += sum(map(len, completion_ids))
        clock.now.stopped += sum(ids[-1] in stops for ids in completion_ids)
        return [job.reward(prompt, i % job.group_size) for i, prompt in enumerate(number)]

    generate = model.generate

    def timed_generate(*args: Any, **kwargs: Any) -> Any:
        clock.now.prompt_tokens = int(kwargs["attention_mask"].sum())
        with clocked(clock.now, "sampling"):
            return generate(*args, **kwargs)

    model.generate = timed_generate
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=settings(job, folder),
            train_dataset=dataset(job),
            processing_class=processing,
            callbacks=[clock],
        )
        trainer.train()
    names = ("trl", "torch", "transformers", "accelerate")
    write_result(sys.argv[2], clock.steps, {name: version(name) for name in names})


if __name__ == "__main__":
    main()
