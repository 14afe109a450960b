"""What both sides of a comparison are told, and what they answer: plain data, JSON files.

Imported by the workers in every environment, so it uses the standard library alone.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt. `turn` is what the model reads, an image file in front of it or none; it is
    `question` with the answer format that our templates add."""

    question: str
    turn: str
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Sizes of a comparison. `prompt_tokens` 0: the lab's image puzzles as they are."""

    title: str
    prompt_tokens: int
    prompts_per_step: int
    micro_tokens: int
    lr: float
    warmup: int
    steps: int

    @property
    def prompts(self) -> int:
        """Of all steps, those that do not count too."""
        return self.prompts_per_step * (self.warmup + self.steps)

    def job(
        self, model: Path, prompts: Sequence[PromptRow], prompt_tokens: int, **given: Any
    ) -> Job:
        """The job of this size on a model and its prompts; `given` is what else a `Job` needs."""
        sizes: dict[str, Any] = {
            "prompts_per_step": self.prompts_per_step,
            "group_size": 8,
            "max_new_tokens": 128,
            "warmup": self.warmup,
            "steps": self.steps,
            "micro_tokens": self.micro_tokens,
            "lr": self.lr,
            "seed": 0,
        }
        return Job(
            model=str(model),
            prompts=tuple(prompts),
            prompt_tokens=prompt_tokens,
            **sizes | given,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """`steps` GRPO steps, after `warmup` ones that do not count."""

    model: str
    dtype: str
    threads: int
    prompts: tuple[PromptRow, ...]
    prompts_per_step: int
    group_size: int
    max_new_tokens: int
    warmup: int
    steps: int
    updates: int  # optimiser updates a step
    micro_tokens: int  # padded tokens that a side may hold in one forward and backward pass
    prompt_tokens: int  # of the longest prompt
    trivial_every: int  # every n-th group is all wrong; 0: none is
    lr: float
    seed: int
    method: str = "grpo"
    candidate_tokens: int = 0  # of a trace in a reformulated prompt

    @property
    def rows(self) -> int:
        """Responses a step."""
        return self.prompts_per_step * self.group_size

    def batch(self, step: int) -> list[PromptRow]:
        """The prompts of step 0, 1, ...; every step has its own."""
        first = step * self.prompts_per_step
        return list(self.prompts[first : first + self.prompts_per_step])

    def reward(self, prompt: int, row: int) -> float:
        """The reward of response `row` to prompt number `prompt`: half of a group is right, in
        the order of sampling, whatever it says; of a trivial group nothing is."""
        if self.trivial_every and prompt % self.trivial_every == self.trivial_every - 1:
            return 0.0
        return float(row % 2)


@dataclass(slots=True)
class Measured:
    """One step: seconds of wall clock and of CPU, tokens sampled, responses that stopped."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    sampling_seconds: float = 0.0
    update_seconds: float = 0.0
    tokens: int = 0
    stopped: int = 0
    prompt_tokens: int = 0
    grad_norms: list[float] = field(default_factory=list)


def read_job(path: str | Path) -> Job:
    tree = json.loads(Path(path).read_text())
    return Job(**{**tree, "prompts": tuple(PromptRow(**row) for row in tree["prompts"])})


def write_job(job: Job, path: Path) -> None:
    path.write_text(json.dumps(asdict(job)))


def write_result(path: str | Path, steps: Sequence[Measured], versions: dict[str, str]) -> None:
    """What a worker leaves behind. Peak memory is this process's, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tree = {"steps": [asdict(s) for s in steps], "versions": versions, "peak_mib": peak}
    Path(path).write_text(json.dumps(tree))


@contextmanager
def clocked(into: Measured, name: str | None = None) -> Generator[None]:
    """Add the seconds of the block to `into`: to the whole step, or to the phase `name`."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if name is None:
        into.seconds += wall
        into.cpu_seconds += cpu
    else:
        setattr(into, f"{name}_seconds", getattr(into, f"{name}_seconds") + wall)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
