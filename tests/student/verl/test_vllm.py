"""The cluster engine with vLLM's CPU build as its rollout server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import tiny
from tests.e2e.test_methods import LuckyGrader
from tests.runs.fakes import comparable
from tests.student.verl import engine as e
from zppo.runs.train import train

pytestmark = [
    pytest.mark.verl,
    pytest.mark.vllm,
    pytest.mark.skipif(
        not e.READY or find_spec("vllm") is None,
        reason="needs verl and vLLM's CPU build: python tests/student/verl/cpu/run.py --vllm",
    ),
]


def test_a_run_with_rollouts_by_vllm(tmp_path: Path) -> None:
    """Rollouts, updates and weights that arrive: after each update the server's log-probs are the
    trainer's, which the fingerprint requires."""
    from zppo.student.verl.student import VerlStudent

    config = e.config(
        e.write_model(tmp_path / "model", head_dim=64),
        1,
        f"data.train={e.write_questions(tmp_path / 'questions.jsonl')}",
        f"run.dir={tmp_path}/run",
        "run.steps=2",
        "optimizer.lr=1e-2",
        "verl.rollout=vllm",
        "verl.fingerprint_tolerance=1e-3",
        f"verl.overrides={e.overrides(*e.VLLM_ON_CPU)}",
        method="zppo",
    )
    with e.ray_of_cpus():
        student = VerlStudent.from_config(config)
        first = e.run(e.sample(student, tiny.prompts("llama"), 2, 1))
        again = e.run(e.sample(student, tiny.prompts("llama"), 2, 1))
        assert [r.token_ids.tolist() for g in first for r in g] == [
            r.token_ids.tolist() for g in again for r in g
        ]
        train(config, build=e.same_engine(e.Stays(student), LuckyGrader()), quiet=True)
        gaps = student.fingerprint.gaps
        student.close()
    rows = comparable(Path(config.run.dir))
    assert [row["update/count"] for row in rows] == [2, 2]
    assert all(row["update/grad_norm"] > 0 for row in rows)
    assert max(gaps) < 1e-3


def test_vllm_reads_a_prompts_media_as_the_trainer_does(tmp_path: Path) -> None:
    """Of an image, a video and both: the ids that its own processor makes of the request, and the
    pixels. No model runs: vLLM's CPU build and verl agree on no transformers that has Qwen3.5."""
    script = Path(__file__).parent / "cpu/vllm_reads.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), os.environ["ZPPO_TORCHVISION"]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [(name, same) for name, same, _ in found] == [("a", True), ("b", True), ("d", True)]
    assert max(gap for *_, gap in found) < 1e-5
