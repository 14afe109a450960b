"""How long a user waits: `python benchmarks/startup.py`.

`zppo --help`, and a default run until its first step stands on disk, evaluation before training
included. The first rollout comes before either, so both are upper bounds for it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from machine import hardware, load

ZPPO = (sys.executable, "-m", "zppo")
RUNS, LIMIT_S = 5, 300.0


def help_seconds() -> float:
    start = time.perf_counter()
    subprocess.run([*ZPPO, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def first_step(run: Path) -> dict[str, float]:
    """Seconds from the start of a default run until each of its files is there."""
    wanted = {
        "evaluation before training": run / "evaluations.jsonl",
        "first step, update included": run / "metrics.jsonl",
    }
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*ZPPO, "train", f"run.dir={run}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=run.parent,
    )
    try:
        while len(seconds) < len(wanted):
            now = time.perf_counter() - start
            for name, file in wanted.items():
                if name not in seconds and file.is_file() and file.stat().st_size:
                    seconds[name] = now
            if process.poll() is not None or now > LIMIT_S:
                raise SystemExit("The run ended, or was too slow, before its first step.")
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    return seconds


def main() -> None:
    print(f"{hardware()}; {load()}")
    spent = sorted(help_seconds() for _ in range(RUNS + 1))[:-1]  # the first one fills the cache
    print(f"zppo --help: {statistics.median(spent):.2f} s ({spent[0]:.2f} to {spent[-1]:.2f})")
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in first_step(Path(folder) / "run").items():
            print(f"zppo train, {name}: {seconds:.1f} s")


if __name__ == "__main__":
    main()
