"""A small run of the fuzzer; `fuzz/grading.py` itself runs for a million inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "fuzz" / "grading.py"


def test_random_answers_neither_crash_nor_hang_nor_execute() -> None:
    """In a process of its own: its ban on files and processes cannot be lifted again."""
    command = [sys.executable, str(SCRIPT), "--inputs", "2000", "--seed", "17", "--limit", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2,000 inputs") and " 0 findings" in done.stdout
