"""What a figure was taken on, and how a worker is run."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path


def hardware() -> str:
    """CPU model, cores, memory."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {gib:.0f} GiB"


def load() -> str:
    """What else runs: figures of a busy machine are worth little."""
    return f"load {os.getloadavg()[0]:.1f} at {time.strftime('%Y-%m-%d %H:%M')}"


def run_worker(python: Path | str, script: Path, *args: Path, threads: int, log: Path) -> None:
    """Run `script` in a fresh process of `python`. What it says goes to `log`; when it fails, the
    end of that is shown."""
    variables = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in the worker's own process, where it is measured
        "VLLM_NO_USAGE_STATS": "1",
    }
    with log.open("w") as out:
        done = subprocess.run(
            [str(python), str(script), *map(str, args)],
            stdout=out,
            stderr=out,
            env=variables,
            cwd=log.parent,
        )
    if done.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{script.name} failed ({done.returncode}); {log} ends:\n{end}")
