"""One rank of verl's trainer in a process of its own, without Ray: three updates of the rollouts
that every rank makes for itself, and the embedded engine's beside them. Run by `test_learn.py`:

    python -m tests.student.verl.rank MODEL RANK RANKS PORT

Prints a JSON list of [grad_norm, loss, theirs: grad_norm, loss] a step.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import numpy as np

from tests import tiny
from tests.student.verl import engine
from zppo.student.local import LocalStudent
from zppo.student.verl.batch import arrange, deal, update_options
from zppo.student.verl.config import verl_config
from zppo.student.verl.learn import learn, score
from zppo.student.verl.media import prompt_rows
from zppo.types import Group, Response, Rollout, RolloutStatus

UPDATES = 2


def main(model: str, rank: int, ranks: int, port: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
        "RAY_LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    from verl.workers.engine_workers import ActorRolloutRefWorker

    config = engine.config(Path(model), ranks)
    tree = verl_config(config, 1_024)
    worker = ActorRolloutRefWorker(config=tree.actor_rollout_ref, role="actor")
    worker.init_model()
    local = LocalStudent.from_config(config)

    rng = np.random.default_rng(0)
    prompts = tiny.prompts("llama")
    rows = prompt_rows(local.encoder, prompts)
    groups = [Group(p, tuple(rollout(rng) for _ in range(4))) for p in prompts]
    found: list[list[float]] = []
    for step in range(3):
        advantages = rng.normal(size=12)
        advantages[:4] = 0.0  # a trivial group, which verl never sees
        seed = (0, step)
        plan = arrange(
            groups,
            advantages,
            [len(row.ids) for row in rows],
            UPDATES,
            ranks,
            np.random.default_rng(list(seed)),
        )
        mine = deal(plan, groups, rows, advantages)[rank]
        old = score(worker, mine, 1.0)
        assert old is not None
        metrics = learn(worker, mine, old, update_options(plan, 1.0))
        assert metrics is not None and len(metrics["grad_norm"]) == UPDATES
        theirs = asyncio.run(local.update(groups, advantages, UPDATES, seed)).metrics
        found.append(
            [
                float(np.mean(metrics["grad_norm"])),
                float(np.mean(metrics["loss"])),
                theirs["grad_norm"],
                theirs["loss"],
            ]
        )
    print(json.dumps(found))


def rollout(rng: np.random.Generator) -> Rollout:
    ids = rng.integers(8, 200, int(rng.integers(2, 20)))
    return Rollout(Response(ids, None, "", True), 0.0, RolloutStatus.GRADED)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
