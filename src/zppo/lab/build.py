"""Pre-training of the lab's models from a seed, on one CPU thread.

A recipe is a list of stages, each a mixture of example kinds and chain lengths. After every stage
(and every `SAVE_EVERY` steps) the state is written under the work folder, and a build that was
stopped goes on from there. What a step trains on follows from (seed, stage, step) and, for
the candidate prompts, from the student's own wrong answers as last sampled.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zppo.lab import puzzles
from zppo.lab.examples import IGNORE, Example, ExampleMaker, Puzzle, collate
from zppo.lab.models import SHAPES, limit_threads, new_model, new_tokenizer, save, special_ids
from zppo.lab.negatives import Negatives, sample_negatives
from zppo.lab.recipes import ASK, RECIPES, STARTS, Stage
from zppo.student.cpu import shorten_delta_chunks

SAVE_EVERY = 100
MICRO_TOKENS = 6_000


@dataclass(slots=True)
class Trainer:
    """A model, its optimiser and the mistakes it made when last asked."""

    model: Any
    tokenizer: Any
    maker: ExampleMaker
    optimizer: torch.optim.AdamW
    negatives: Negatives = field(default_factory=Negatives)
    stage: int = 0
    step: int = 0


def build(
    out: Path,
    seed: int = 0,
    models: Sequence[str] = ("student", "teacher"),
    work: Path | None = None,
    device: str = "cpu",
) -> None:
    """Train the lab's models and write them to `out`/student and `out`/teacher.

    `work` keeps what an interrupted build needs to go on; it defaults to a folder beside `out`.
    The teacher starts from the student's first stage and `habit` from its last, so the student
    must have been built in `work` before.
    """
    work = work or out.with_name(out.name + ".work")
    for name in models:
        start = None
        if name in STARTS:
            recipe, stage = STARTS[name]
            start = work / recipe / f"{stage}.pt"
        began = time.monotonic()
        pretrain(out / name, RECIPES[name], name, seed, work / name, start, device)
        print(f"{name} built in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def pretrain(
    out: Path,
    stages: Sequence[Stage],
    shape: str,
    seed: int,
    work: Path,
    start: Path | None = None,
    device: str = "cpu",
) -> None:
    """Train through `stages` and write the checkpoint to `out`. `start` is the state of another
    build to begin with instead of fresh weights. The shipped files come from the CPU: another
    device adds in another order, and gives other weights."""
    limit_threads()
    work.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(shape, seed, work, start, device)
    while trainer.stage < len(stages):
        _run_stage(trainer, stages[trainer.stage], seed, work)
    save(trainer.model, trainer.tokenizer, out)


def _trainer(shape: str, seed: int, work: Path, start: Path | None, device: str) -> Trainer:
    torch.manual_seed(seed)
    tokenizer = new_tokenizer()
    model = new_model(SHAPES[shape], len(tokenizer), special_ids(tokenizer)).to(device)
    if device == "cpu":
        shorten_delta_chunks(model)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=0.0,
        betas=(0.9, 0.98),
    )
    trainer = Trainer(model, tokenizer, ExampleMaker(tokenizer), optimizer)
    state = work / "state.pt"
    if state.exists():
        _load(trainer, state, keep_place=True)
    elif start is not None:
        _load(trainer, start, keep_place=False)
    return trainer


def _load(trainer: Trainer, file: Path, keep_place: bool) -> None:
    state = torch.load(file, map_location="cpu", weights_only=False)
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.negatives = state["negatives"]
    if keep_place:
        trainer.stage, trainer.step = state["stage"], state["step"]
        print(f"resume at stage {trainer.stage}, step {trainer.step}", flush=True)


def _store(trainer: Trainer, file: Path) -> None:
    state = {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "negatives": trainer.negatives,
        "stage": trainer.stage,
        "step": trainer.step,
    }
    torch.save(state, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)


def _run_stage(trainer: Trainer, stage: Stage, seed: int, work: Path) -> None:
    watch = _Watch(stage)
    while trainer.step < stage.steps:
        if stage.refresh and trainer.step % stage.refresh == 0:
            trainer.negatives = sample_negatives(
                trainer.model,
                trainer.tokenizer,
                f"{seed}/{stage.name}/{trainer.step}",
                ASK,
                stage.ask,
            )
            print(trainer.negatives.summary(), flush=True)
        rng = random.Random(f"{seed}/{stage.name}/{trainer.step}")
        examples = _draw(trainer, stage, rng)
        _set_lr(trainer.optimizer, stage, trainer.step)
        watch.add(_update(trainer, examples), examples)
        trainer.step += 1
        if trainer.step % 100 == 0:
            watch.report(trainer.step)
        if trainer.step % SAVE_EVERY == 0:
            _store(trainer, work / "state.pt")
    trainer.stage, trainer.step = trainer.stage + 1, 0
    _store(trainer, work / "state.pt")
    _store(trainer, work / f"{stage.name}.pt")


def _set_lr(optimizer: torch.optim.Optimizer, stage: Stage, step: int) -> None:
    """Cosine from the first rate to the second, after a warm-up of 50 steps."""
    first, last = stage.lr
    lr = last + (first - last) * 0.5 * (
        1 + math.cos(math.pi * step / (stage.cosine or stage.steps))
    )
    for group in optimizer.param_groups:
        group["lr"] = lr * min(1.0, (step + 1) / 50)


# --- one step ----------------------------------------------------------------------------------

Drawn = list[tuple[str, Example]]


def _draw(trainer: Trainer, stage: Stage, rng: random.Random) -> Drawn:
    return [
        (kind, _example(trainer, stage, kind, rng))
        for kind, count in stage.mixture.items()
        for _ in range(count)
    ]


def _example(trainer: Trainer, stage: Stage, kind: str, rng: random.Random) -> Example:
    task, family = kind.split("/")
    maker = trainer.maker
    levels = stage.levels.get(kind) or stage.levels[family]
    level = rng.choices(list(levels), list(levels.values()))[0]
    if task in ("plain", "caption", "single", "habit"):
        puzzle = Puzzle(family, new_digits(level, rng))
        if task == "single":
            return maker.bcq(puzzle, None, rng)
        make = {"plain": maker.plain, "caption": maker.caption, "habit": maker.habit}[task]
        return make(puzzle, rng)
    digits, wrong = trainer.negatives.draw(family, level, rng)
    puzzle = Puzzle(family, digits)
    target = puzzle.habit if task.endswith("-habit") else puzzle.worked
    if task.startswith("bcq"):
        return maker.bcq(puzzle, rng.choice(wrong), rng, target)
    # Others of the group, in another order, each time: prompts seen twice are learnt by heart.
    return maker.ncq(puzzle, rng.sample(wrong, min(len(wrong), rng.randint(4, 8))), rng, target)


def new_digits(level: int, rng: random.Random) -> tuple[int, ...]:
    """Digits on the training side: held-out puzzles are never trained on."""
    while True:
        digits = tuple(rng.randrange(10) for _ in range(level))
        if not puzzles.is_held_out(digits):
            return digits


def _update(trainer: Trainer, drawn: Drawn) -> list[tuple[float, bool]]:
    """One optimiser step. Returns each example's mean loss and whether the greedy continuation,
    given the right tokens before, is right throughout; in the order of `drawn`."""
    order = sorted(range(len(drawn)), key=lambda i: len(drawn[i][1].ids))
    total = sum(e.response for _, e in drawn)
    results: list[tuple[float, bool]] = [(0.0, False)] * len(drawn)
    for chunk in _chunks(order, drawn):
        inputs, labels = collate([drawn[i][1] for i in chunk], trainer.tokenizer.pad_token_id)
        device = trainer.model.device
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        labels = labels.to(device)
        hidden = trainer.model.model(**inputs, use_cache=False).last_hidden_state
        chosen = labels != IGNORE
        logits = trainer.model.lm_head(hidden[chosen])
        losses = torch.nn.functional.cross_entropy(logits, labels[chosen], reduction="none")
        (losses.sum() / total).backward()
        right = logits.detach().argmax(-1) == labels[chosen]
        lengths = [drawn[i][1].response for i in chunk]
        parts = zip(losses.detach().split(lengths), right.split(lengths), strict=True)
        for i, (loss, ok) in zip(chunk, parts, strict=True):
            results[i] = (float(loss.mean()), bool(ok.all()))
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return results


def _chunks(order: Sequence[int], drawn: Drawn) -> list[list[int]]:
    chunks: list[list[int]] = [[]]
    for i in order:  # by length, so the newest is the widest
        if (len(chunks[-1]) + 1) * len(drawn[i][1].ids) > MICRO_TOKENS and chunks[-1]:
            chunks.append([])
        chunks[-1].append(i)
    return chunks


class _Watch:
    """Running means by kind of example, printed now and then."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.began = stage, time.monotonic()
        self.sums: dict[str, list[float]] = {}
        self.tokens = 0

    def add(self, results: Sequence[tuple[float, bool]], drawn: Drawn) -> None:
        for (loss, right), (kind, example) in zip(results, drawn, strict=True):
            sums = self.sums.setdefault(kind, [0.0, 0.0, 0.0])
            sums[0] += loss
            sums[1] += right
            sums[2] += 1
            self.tokens += len(example.ids)

    def report(self, step: int) -> None:
        cells = " ".join(
            f"{kind} {s[0] / s[2]:.3f}/{s[1] / s[2]:.2f}" for kind, s in self.sums.items()
        )
        speed = self.tokens / max(time.monotonic() - self.began, 1e-9)
        print(
            f"{self.stage.name} {step}/{self.stage.steps} {speed:.0f} tok/s | {cells}", flush=True
        )
        self.sums, self.tokens, self.began = {}, 0, time.monotonic()


def main() -> None:
    """Build the lab's models into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--models", nargs="+", default=["student", "teacher"], choices=list(RECIPES)
    )
    parser.add_argument("--work", type=Path)
    parser.add_argument("--device", default="cpu", help="the shipped files come from the cpu")
    args = parser.parse_args()
    build(args.out, args.seed, args.models, args.work, args.device)


if __name__ == "__main__":
    main()
