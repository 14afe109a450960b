"""A ZPPO step against a GRPO+replay step at the paper's proportions: `python
benchmarks/zppo_step.py`.

The teacher answers at once and rightly, traces are cut instead of compressed, so what is compared
is the student's work: a quarter more groups, on longer prompts. A third of the questions is all
wrong when plain; of a BCQ group half is right, of an NCQ group nothing.
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
from paired import Side, report, run_pairs
from plan import Case, Job, write_job
from prompts import prompts_of

from zppo.lab import model_path

WORKER = Path(__file__).parent / "peers/zppo_worker.py"


#: With a warm-up long enough for the buffer to serve a full replay.
CASES = {
    "lab": Case("lab", 0, 32, 32_768, 1e-4, 2, 6),
    "smollm2": Case("SmolLM2-135M, questions of 130 tokens", 130, 8, 4_096, 1e-6, 1, 2),
}


def make_job(case: Case, folder: Path, args: argparse.Namespace) -> Job:
    model = model_path("student")
    if case.prompt_tokens:
        # TRL's environment only makes the checkpoint here.
        place = args.cache / "smollm2-135m-one-line"
        ready = (place / "config.json").is_file()
        model = place if ready else one_line_smollm2(make_trl(args.cache / "trl"), place)
    return case.job(
        model,
        *prompts_of(case, model, folder, args.rows),
        dtype="fp32",
        threads=args.threads,
        updates=4,
        trivial_every=3,
        candidate_tokens=args.candidate_tokens,
    )


def compare(case: Case, args: argparse.Namespace) -> str:
    print(f"{case.title}; {load()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = make_job(case, folder, args)

        def side(method: str, seed: int) -> Side:
            wanted, result = folder / "job.json", folder / "result.json"
            write_job(replace(job, method=method, seed=seed), wanted)
            log = folder / "worker.log"
            run_worker(sys.executable, WORKER, wanted, result, threads=args.threads, log=log)
            return Side.read(result, job.warmup)

        pairs = run_pairs(
            args.pairs, lambda seed: side("grpo+replay", seed), lambda seed: side("zppo", seed)
        )
    sizes = f"{job.prompts_per_step} new prompts x {job.group_size}, {job.updates} updates"
    traces = f"candidates of {job.candidate_tokens} tokens at most"
    return report(f"{case.title}: {sizes}, {traces}", pairs, "GRPO+replay", "ZPPO")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--case", choices=CASES, action="append", help="default: both")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one SmolLM2 step a process")
    parser.add_argument(
        "--candidate-tokens",
        type=int,
        default=16,
        help="cap of a trace in a reformulated prompt; an eighth of the longest response, where "
        "the paper's 512 of 12,288 are a 24th",
    )
    parser.add_argument("--prompts", type=int, help="new questions a step")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=Path, help="a .jsonl file with `question`s to take")
    parser.add_argument("--cache", type=Path, default=CACHE, help="environment and model")
    args = parser.parse_args()
    print(f"{hardware()}; {args.threads} thread(s)", flush=True)
    for name in args.case or CASES:
        case = CASES[name]
        case = replace(case, prompts_per_step=args.prompts or case.prompts_per_step)
        short = args.quick and case.prompt_tokens
        print("\n" + compare(replace(case, steps=1) if short else case, args), flush=True)


if __name__ == "__main__":
    main()
