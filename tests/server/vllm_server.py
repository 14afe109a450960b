"""The server of the tests: `examples/vllm_cpu/serve.py`, as a user would start it.

Its first start makes vLLM's environment (3.5 GB, several minutes); see there for where.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples/vllm_cpu/serve.py"
NAME = "smollm2"
START_S = 300


class NoServer(Exception):
    """Why there is none; the reason a test is skipped for."""


def set_up() -> Path:
    """Make environment and model where there are none; the folder of the model.

    Raises `NoServer`.
    """
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--set-up-only"], capture_output=True, text=True
    )
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = said[-1] if said else "it said nothing"
    if done.returncode != 0:
        raise NoServer(f"vLLM's CPU build could not be set up: {last}")
    return Path(last)


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The base URL of a running server. Raises `NoServer`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = Path(tempfile.gettempdir()) / f"zppo-vllm-{port}.log"
    command = [sys.executable, str(SCRIPT), str(model), "--name", NAME, "--port", str(port)]
    with log.open("wb") as out:
        # A session of its own: vLLM has an engine process, and both have to go.
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    try:
        _await_health(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


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
