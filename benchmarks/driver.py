"""What one driver process costs on a cluster: `python benchmarks/driver.py`.

With `student.engine=verl` all rollouts of a step pass through one process. This walks a step's
worth of them through it, at the paper's size: 384 x 1.5 groups of 8 responses, 12,288 tokens each
(all at the limit: the most there can be), an image of 1280 * 32 * 32 pixels a prompt. Parts:

prompts      image headers, chat template, token ids, positions
requests     4,608 calls to a Ray actor and its replies, lists of tokens and log-probs
responses    replies to arrays and text
core         zone, prompts, advantages, metrics, buffer, rollout log (`bookkeeping.py`)
deal         which rank trains on what, nothing left out (in a real step trivial groups are), and
             the rows of each rank in Ray's object store (without Ray: pickled)

Grading is no part of it. A share of the groups is measured (`--part 8`: an eighth) and multiplied:
CPU seconds of this process, all its threads, and how far its memory rose above what it held before.
`requests` needs verl and Ray, and is left out without.
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
from typing import Any

import bookkeeping
import numpy as np
from PIL import Image
from transformers import AutoTokenizer

from zppo.lab import models
from zppo.student.inputs import PromptEncoder
from zppo.student.verl import batch as verl_batch
from zppo.student.verl.media import image_references, prompt_rows
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


class Meter:
    """CPU seconds of each part, and bytes by which it raised the memory in use."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.risen: dict[str, int] = {}

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


def to_response(reply: tuple[list[int], list[float]], tokenizer: Any) -> Response:
    ids, logprobs = reply
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return Response(np.asarray(ids), np.asarray(logprobs, dtype=np.float32), text, True)


def measure(size: Size, tokenizer_folder: str | None, folder: Path) -> Meter:
    meter = Meter()
    encoder = make_encoder(tokenizer_folder)
    file = folder / "picture.jpg"
    file.write_bytes(picture())
    prompts = make_prompts(size, file)
    with meter("prompts"):
        outlines = [encoder.outline(p) for p in prompts]
        asked = [outline.ids.tolist() for outline in outlines]
        images = [image_references(encoder, p, o) for p, o in zip(prompts, outlines, strict=True)]
        rows = prompt_rows(encoder, prompts)  # for learning, once more
    print(f"a prompt has {len(asked[0]):,} tokens, its image file {file.stat().st_size:,} bytes")

    ids = text_ids(encoder.tokenizer, size.tokens)
    if ray_is_there():
        with meter("requests"):
            replies = asyncio.run(ask(asked, images, size, ids))
    else:
        replies = [(list(ids), [-0.5] * size.tokens) for _ in range(size.groups * size.rollouts)]
    gc.collect()
    responses: list[Response] = []
    with meter("responses"):
        # Each as it comes: its lists are gone when the next is there.
        for i in range(len(replies)):
            responses.append(to_response(replies[i], encoder.tokenizer))
            replies[i] = ([], [])

    with meter("core"):
        core = bookkeeping.measure(
            round(size.groups / 1.5), size.tokens, 10_000 * size.groups // 576, folder
        )
    meter.seconds["core"] = sum(core.values())

    groups = as_groups(prompts, responses, size.rollouts)
    advantages = np.random.default_rng(0).normal(size=len(responses))
    with meter("deal"):
        arrangement = verl_batch.arrange(
            groups,
            advantages,
            [len(r.ids) for r in rows],
            UPDATES,
            size.ranks,
            np.random.default_rng(0),
        )
        dealt = verl_batch.deal(arrangement, groups, rows, advantages)
        send(dealt)
    return meter


def as_groups(prompts: Sequence[Prompt], responses: list[Response], n: int) -> list[Group]:
    rollouts = [Rollout(r, 0.0, RolloutStatus.GRADED) for r in responses]
    return [Group(p, tuple(rollouts[i * n : (i + 1) * n])) for i, p in enumerate(prompts)]


# -- with Ray and verl ----------------------------------------------------------------------------


def ray_is_there() -> bool:
    return (
        importlib.util.find_spec("ray") is not None and importlib.util.find_spec("verl") is not None
    )


class Server:
    """In place of a rollout server: answers every request with the same tokens."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.logprobs = ids, [-0.001 * (i % 1_000) for i in range(len(ids))]

    def generate(self, **request: Any) -> Any:
        from verl.workers.rollout.replica import TokenOutput

        return TokenOutput(token_ids=self.ids, log_probs=self.logprobs, stop_reason="completed")


async def ask(
    asked: list[list[int]], images: list[Any], size: Size, ids: list[int]
) -> list[tuple[list[int], list[float]]]:
    """All requests, no more than 1,024 under way; references stay references on the way."""
    import ray

    server: Any = ray.remote(Server).remote(ids)
    gate = asyncio.Semaphore(1_024)

    async def one(prompt: int) -> tuple[list[int], list[float]]:
        async with gate:
            out = await server.generate.remote(
                request_id="r",
                prompt_ids=asked[prompt],
                sampling_params={"temperature": 1.0, "logprobs": True},
                image_data=[pickle.dumps(image) for image in images[prompt]],
                video_data=None,
            )
        return out.token_ids, out.log_probs

    turns = (one(p) for p in range(size.groups) for _ in range(size.rollouts))
    return await asyncio.gather(*turns)


def send(dealt: Sequence[verl_batch.Rows]) -> None:
    """Into Ray's object store; without Ray into bytes, a copy as well."""
    if not ray_is_there():
        for part in dealt:
            pickle.dumps(part, protocol=5)
        return
    import ray

    assert len({ray.put(part) for part in dealt}) == len(dealt)


def warm_up() -> None:
    """Imports are no part of a step."""
    import verl.workers.rollout.replica  # noqa: F401


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, default=8, help="measure one part in so many")
    parser.add_argument("--groups", type=int, default=576)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=12_288)
    parser.add_argument("--words", type=int, default=500, help="of a prompt, beside its image")
    parser.add_argument("--ranks", type=int, default=48)
    parser.add_argument("--tokenizer", help="a folder; the lab's otherwise")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    size = Size(
        options.groups // options.part,
        options.rollouts,
        options.tokens,
        options.words,
        options.ranks,
    )
    if ray_is_there():
        import ray

        ray.init(num_cpus=2, object_store_memory=GIB, include_dashboard=False, logging_level=40)
        warm_up()
    else:
        print("verl and Ray are not installed here: `requests` is left out")
    with tempfile.TemporaryDirectory() as folder:
        meter = measure(size, options.tokenizer, Path(folder))
    print(f"1/{options.part} measured, multiplied by {options.part}; a step of {STEP} s")
    for name, seconds in meter.seconds.items():
        whole, memory = seconds * options.part, meter.risen[name] * options.part / GIB
        print(f"{name:12} {whole:8.2f} s  {whole / STEP:7.3%}   {memory:6.2f} GiB")
    whole = sum(meter.seconds.values()) * options.part
    memory = sum(meter.risen.values()) * options.part / GIB
    print(f"{'all':12} {whole:8.2f} s  {whole / STEP:7.3%}   {memory:6.2f} GiB")


if __name__ == "__main__":
    main()
