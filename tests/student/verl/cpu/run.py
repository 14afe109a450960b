"""The tests of the cluster engine, in an environment of their own, on a CPU:

    python tests/student/verl/cpu/run.py                 # makes the environment, runs the tests
    python tests/student/verl/cpu/run.py -k parity -s    # options of pytest
    python tests/student/verl/cpu/run.py --in COMMAND    # any other command in that environment

The first call makes the environment (Linux, Python 3.11 or 3.12; 2.1 GB and several minutes) in
~/.cache/zppo/verl-cpu, or where ZPPO_VERL_ENV says. It has verl 0.9.1 as released, torch's CPU
build, and no vLLM: rollouts come from the small server of `verl_cpu_rollout.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
sys.path.insert(0, str(ROOT / "examples/vllm_cpu"))

from serve import CACHE, TORCH, make_environment  # noqa: E402

PACKAGES = (
    "verl==0.9.1",
    TORCH,
    "transformers==5.10.4",  # verl 0.9.1 wants less than 5.11
    "ray[default]==2.60.0",
    # What verl imports without asking for it, then what zppo and its tests need besides.
    *("TransferQueue==0.1.11", "pyzmq", "msgspec", "cachetools", "fastapi", "uvicorn"),
    *("pydantic>=2.11", "pyyaml>=6", "typer>=0.16", "rich>=14", "jinja2>=3.1", "openai>=2"),
    *("av>=15", "pillow>=11", "matplotlib>=3.10", "safetensors>=0.5", "pytest>=8.4"),
)
#: verl finds its CPU platform and the rollout server through its plug-in registries.
VARIABLES = {
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT, HERE))),
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",  # the engine that is registered for GPUs, on a CPU
    "VERL_USE_EXTERNAL_MODULES": "verl_cpu_platform,verl_cpu_rollout",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 as a rule, which starves them on a machine with other work
    "RAY_enable_worker_prestart": "0",  # idle processes take longer to start than the tests' own
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "0",
}


def main() -> None:
    folder = Path(os.environ.get("ZPPO_VERL_ENV") or CACHE / "verl-cpu").absolute()
    python = make_environment(folder, PACKAGES, (), (), "verl and torch's CPU build")
    if sys.argv[1:2] == ["--in"]:
        command = sys.argv[2:]
    else:
        command = [str(python), "-m", "pytest", "-m", "verl", str(HERE.parent), *sys.argv[1:]]
    path = os.pathsep.join((str(python.parent), os.environ["PATH"]))
    os.execvpe(command[0], command, {**os.environ, **VARIABLES, "PATH": path})


if __name__ == "__main__":
    main()
