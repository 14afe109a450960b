"""What one driver process costs on a cluster: `python benchmarks/driver.py`.

With `student.engine=verl` all rollouts of a step pass through one process. This walks a step's
worth of them through it, at the paper's size: 384 x 1.5 groups of 8 responses, 12,288 tokens each
(all at the limit: the most there can be), an image of 1280 * 32 * 32 pixels a prompt. Parts:

prompts      image headers, chat template, token ids: for the rollout, and positions for the update
rollouts     groups asked of the relays, processes of their own beside the servers, which get
             lists of numbers and hand on arrays and text
core         zone, prompts, advantages, metrics, buffer, rollout log (`bookkeeping.py`)
deal         which rank trains on what, nothing left out (in a real step trivial groups are), and
             the rows of each rank in Ray's object store (without Ray: pickled)

Grading is no part of it. A share of the groups is measured (`--part 8`: an eighth) and multiplied:
CPU seconds of this process, all its threads, and how far its memory rose above what it held before;
of the relays, CPU seconds. `rollouts` needs Ray, and is left out without.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import io
import os
import pickle
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bookkeeping
import numpy as np
from PIL import Image
from transformers import AutoTokenizer

from zppo.config_verl import VerlConfig
from zppo.lab import models
from zppo.student.inputs import PromptEncoder
from zppo.student.sampler import Sampling
from zppo.student.verl import batch as verl_batch
from zppo.student.verl.prompts import RequestedPrompt, ServerMedia, StepPrompts
from zppo.student.verl.relay import Relay, RemoteRelay
from zppo.student.verl.requests import Requests
from zppo.types import Group, GroupKind, Media, Prompt, Question, Response, Rollout, RolloutStatus

STEP = 20 * 60  # seconds
GIB = 2**30
WIDTH, HEIGHT = 1_280, 1_024  # 1280 * 32 * 32 pixels
UPDATES = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Of the part that is measured."""

    groups: int
    rollouts: int
    tokens: int
    words: int
    ranks: int
    relays: int


class Meter:
    """CPU seconds of each part, and bytes by which it raised the memory in use."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.risen: dict[str, int] = {}
        self.relays = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        held, began = _status("VmRSS"), time.process_time()
        yield
        self.seconds[name] = time.process_time() - began
        self.risen[name] = _status("VmHWM") - held


def _status(key: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if key in x)
    return int(line.split()[1]) * 1_024


def picture() -> bytes:
    """A JPEG file with some detail, as large as a photograph of this size is."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_encoder(folder: str | None) -> PromptEncoder:
    """With Qwen3.5's patches and pixel bounds, and the tokenizer of `folder` or the lab's."""
    tokenizer = models.new_tokenizer()
    if folder is not None:
        template = tokenizer.chat_template
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": list(models.SPECIAL_TOKENS)})
        tokenizer.chat_template = template
    shape = models.Shape(48, 96, 2, (models.LINEAR, models.FULL), 32)
    model = models.new_model(shape, len(tokenizer), models.special_ids(tokenizer))
    size = {"shortest_edge": 256 * 32 * 32, "longest_edge": 1_280 * 32 * 32}
    processor = type(models.image_processor())(patch_size=16, merge_size=2, size=size)
    return PromptEncoder(tokenizer, model, processor)


def make_prompts(size: Size, file: Path) -> list[Prompt]:
    words = (Path(__file__).parents[1] / "README.md").read_text().split()
    text = " ".join((words * (1 + size.words // len(words)))[: size.words])
    media = (Media("image", (str(file),)),)
    return [
        Prompt(Question(f"q{i}", f"{i}: {text}", str(i), media=media), GroupKind.PLAIN, text)
        for i in range(size.groups)
    ]


def text_ids(tokenizer: Any, tokens: int) -> list[int]:
    text = "".join(p.read_text() for p in sorted(Path(__file__).parents[1].glob("docs/*.md")))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (ids * (1 + tokens // len(ids)))[:tokens]


def measure(size: Size, tokenizer_folder: str | None, folder: Path) -> Meter:
    meter = Meter()
    encoder = make_encoder(tokenizer_folder)
    file = folder / "picture.jpg"
    file.write_bytes(picture())
    step_prompts = StepPrompts(encoder, ServerMedia((0, 2**40), None, "vllm"))
    prompts = make_prompts(size, file)
    with meter("prompts"):
        asked = step_prompts.requested(prompts, keep=True)
        rows = step_prompts.rows(prompts)
    print(f"a prompt has {len(rows[0].ids):,} tokens, its image file {file.stat().st_size:,} bytes")

    ids = text_ids(encoder.tokenizer, size.tokens)
    if ray_is_there():
        relays = start(size, encoder.tokenizer, ids)
        with meter("rollouts"):
            groups = asyncio.run(rollouts(relays, asked, size))
        meter.relays = sum(relay.cpu_seconds() for relay in relays)
    else:
        same = Response(np.asarray(ids), np.full(len(ids), -0.5, dtype=np.float32), "", True)
        groups = [[same] * size.rollouts for _ in prompts]

    with meter("core"):
        core = bookkeeping.measure(
            round(size.groups / 1.5), size.tokens, 10_000 * size.groups // 576, folder
        )
    meter.seconds["core"] = sum(core.values())

    learnt = as_groups(prompts, groups)
    advantages = np.random.default_rng(0).normal(size=size.groups * size.rollouts)
    with meter("deal"):
        arrangement = verl_batch.arrange(
            learnt,
            advantages,
            [len(r.ids) for r in rows],
            UPDATES,
            size.ranks,
            np.random.default_rng(0),
        )
        dealt = verl_batch.deal(arrangement, learnt, rows, advantages)
        send(dealt)
    return meter


def as_groups(prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]]) -> list[Group]:
    return [
        Group(p, tuple(Rollout(r, 0.0, RolloutStatus.GRADED) for r in some))
        for p, some in zip(prompts, groups, strict=True)
    ]


# -- with Ray -------------------------------------------------------------------------------------


def ray_is_there() -> bool:
    return importlib.util.find_spec("ray") is not None


class Server:
    """In place of a rollout server: answers every request with the same tokens."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.logprobs = ids, [-0.001 * (i % 1_000) for i in range(len(ids))]

    def generate(self, **request: Any) -> Any:
        return SimpleNamespace(token_ids=self.ids, log_probs=self.logprobs, stop_reason="completed")


class Client:
    """In place of verl's: one server."""

    def __init__(self, server: Any) -> None:
        self.server = server

    async def generate(self, **request: Any) -> Any:
        del request["image_data"]  # unpickled, they would be decoded, by the server
        return await self.server.generate.remote(**request)


class MeasuredRelay(Relay):
    async def cpu_seconds(self) -> float:
        return time.process_time() - self.began

    async def warm_up(self) -> None:
        self.began = time.process_time()


class Measured(RemoteRelay):
    """With the CPU seconds of the relay's process since it was ready."""

    def cpu_seconds(self) -> float:
        import ray

        return ray.get(self.actor.cpu_seconds.remote())


def start(size: Size, tokenizer: Any, ids: list[int]) -> list[Measured]:
    """As `start_relays` does; eight machines at the paper's size, and so many here as the part
    that is measured has."""
    import ray

    server = ray.remote(Server).remote(ids)
    actor: Any = ray.remote(MeasuredRelay).options(num_cpus=0, max_concurrency=100_000)
    arguments = (Client(server), tokenizer, (0,), 1_800.0, 128)
    relays = [Measured(actor.remote(*arguments)) for _ in range(size.relays)]
    ray.get([relay.actor.warm_up.remote() for relay in relays])
    return relays


async def rollouts(
    relays: Sequence[Measured], asked: Sequence[RequestedPrompt], size: Size
) -> list[tuple[Response, ...]]:
    requests = Requests(relays, VerlConfig(nnodes=len(relays)), [0], [])
    rule = Sampling(max_tokens=size.tokens)
    found: dict[int, tuple[Response, ...]] = {}
    async for chunk in requests.answers(asked, size.rollouts, rule, (0, 0)):
        found |= chunk
    return [found[i] for i in range(len(asked))]


def send(dealt: Sequence[verl_batch.Rows]) -> None:
    """Into Ray's object store; without Ray into bytes, a copy as well."""
    if not ray_is_there():
        for part in dealt:
            pickle.dumps(part, protocol=5)
        return
    import ray

    assert len({ray.put(part) for part in dealt}) == len(dealt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, default=8, help="measure one part in so many")
    parser.add_argument("--groups", type=int, default=576)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=12_288)
    parser.add_argument("--words", type=int, default=500, help="of a prompt, beside its image")
    parser.add_argument("--ranks", type=int, default=48)
    parser.add_argument("--relays", type=int, default=1, help="here; a machine has one")
    parser.add_argument("--tokenizer", help="a folder; the lab's otherwise")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    size = Size(
        options.groups // options.part,
        options.rollouts,
        options.tokens,
        options.words,
        options.ranks,
        options.relays,
    )
    if ray_is_there():
        import ray

        ray.init(num_cpus=2, object_store_memory=GIB, include_dashboard=False, logging_level=40)
    else:
        print("Ray is not installed here: `rollouts` is left out")
    with tempfile.TemporaryDirectory() as folder:
        meter = measure(size, options.tokenizer, Path(folder))
    print(f"1/{options.part} measured, multiplied by {options.part}; a step of {STEP} s")
    for name, seconds in meter.seconds.items():
        whole, memory = seconds * options.part, meter.risen[name] * options.part / GIB
        print(f"{name:12} {whole:8.2f} s  {whole / STEP:7.3%}   {memory:6.2f} GiB")
    whole = sum(meter.seconds.values()) * options.part
    memory = sum(meter.risen.values()) * options.part / GIB
    print(f"{'all':12} {whole:8.2f} s  {whole / STEP:7.3%}   {memory:6.2f} GiB")
    print(f"relays       {meter.relays * options.part:8.2f} s over all machines, not on the driver")


if __name__ == "__main__":
    main()
