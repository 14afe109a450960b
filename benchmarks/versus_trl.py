"""Whole GRPO steps, ours against TRL's GRPOTrainer: `python benchmarks/versus_trl.py --quick`.

Makes TRL's own environment on the first call (1.5 GB, a few minutes), then runs both sides in
turn, each in a fresh process with the same number of threads, and prints the ratios as Markdown.
What is the same on both sides, and what is not, is in README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from environments import CACHE, make_trl, one_line_smollm2
from machine import hardware, load, run_worker
from paired import Side, report, require_equal, run_pairs
from plan import Case, Job, write_job
from prompts import prompts_of

from zppo.lab import model_path

PEERS = Path(__file__).parent / "peers"


def quick(case: Case) -> Case:
    """Half the prompts, one step and no warm-up, where steps are long."""
    if not case.prompt_tokens:
        return replace(case, steps=4)
    return replace(case, prompts_per_step=3, warmup=0, steps=1)


CASES = {
    "lab": Case("lab: tiny Qwen3.5 VLM, one image a prompt", 0, 30, 32_768, 1e-4, 1, 8),
    "smollm2-300": Case("SmolLM2-135M, prompts of 300 tokens", 300, 6, 4_096, 1e-6, 1, 2),
    "smollm2-1000": Case("SmolLM2-135M, prompts of 1,000 tokens", 1_000, 6, 4_096, 1e-6, 1, 2),
}


def make_job(case: Case, python: Path, folder: Path, args: argparse.Namespace) -> Job:
    """Model and prompts of `case` on disk."""
    model = model_path("student")
    if case.prompt_tokens:
        model = one_line_smollm2(python, args.cache / "smollm2-135m-one-line")
    return case.job(
        model,
        *prompts_of(case, model, folder, args.rows),
        dtype=args.dtype,
        threads=args.threads,
        updates=args.updates,
        micro_tokens=args.micro_tokens or case.micro_tokens,
        trivial_every=3 if args.trivial == "third" else 0,
    )


def compare(name: str, python: Path, args: argparse.Namespace) -> str:
    case = quick(CASES[name]) if args.quick else CASES[name]
    print(f"{case.title}; {load()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = make_job(case, python, folder, args)

        def side(which: str, interpreter: Path | str, seed: int) -> Side:
            wanted, result = folder / "job.json", folder / f"{which}.json"
            write_job(replace(job, seed=seed), wanted)
            run_worker(
                interpreter,
                PEERS / f"{which}_worker.py",
                wanted,
                result,
                threads=args.threads,
                log=folder / f"{which}.log",
            )
            return Side.read(result, job.warmup)

        pairs = run_pairs(
            args.pairs,
            lambda seed: side("zppo", sys.executable, seed),
            lambda seed: side("trl", python, seed),
        )
    require_equal(pairs, "prompt_tokens", "tokens", "stopped")
    trivial = "a third of the groups trivial" if job.trivial_every else "no group trivial"
    sizes = f"{job.prompts_per_step} x {job.group_size} responses, {trivial}, {job.dtype}"
    return report(f"{case.title}; {sizes}, {job.updates} update(s)", pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--case", choices=CASES, action="append", help="default: all of them")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer prompts and steps")
    parser.add_argument("--trivial", choices=("third", "none"), default="third")
    parser.add_argument("--updates", type=int, default=1, help="optimiser updates a step")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--micro-tokens",
        type=int,
        help="padded tokens of one forward and backward pass, both sides",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=Path, help="a .jsonl file with `question`s to take")
    parser.add_argument("--cache", type=Path, default=CACHE, help="environments and model")
    args = parser.parse_args()
    python = make_trl(args.cache / "trl")
    print(f"{hardware()}; {args.threads} thread(s)", flush=True)
    for name in args.case or CASES:
        print("\n" + compare(name, python, args), flush=True)


if __name__ == "__main__":
    main()
