"""verl's own engine on rows that were dealt out, without Ray: the embedded engine's numbers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.student.verl import engine

READY = os.environ.get("VERL_PLATFORM") == "cpu"
REASON = "needs verl's own environment: python tests/student/verl/cpu/run.py"

pytestmark = [pytest.mark.verl, pytest.mark.skipif(not READY, reason=REASON)]


@pytest.mark.parametrize("kind", ["llama", "vlm"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_three_updates_are_those_of_the_embedded_engine(
    kind: tiny.Kind, ranks: int, tmp_path: Path
) -> None:
    """A text model, and a Qwen3.5 whose prompts have an image, a video, and both."""
    engine.write_model(tmp_path, kind=kind)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module = [sys.executable, "-m", "tests.student.verl.rank", kind, str(tmp_path)]
    processes = [
        subprocess.Popen(
            [*module, str(rank), str(ranks), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err[-2_000:]
        for norm, loss, their_norm, their_loss in json.loads(out.splitlines()[-1]):
            assert their_norm > 0.1
            assert norm == pytest.approx(their_norm, rel=1e-5)
            assert loss == pytest.approx(their_loss, rel=1e-5)
