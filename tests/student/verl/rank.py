"""One rank of verl's trainer in a process of its own, without Ray: three updates of the rollouts
that every rank makes for itself, and the embedded engine's beside them. Run by `test_learn.py`:

    python -m tests.student.verl.rank KIND MODEL RANK RANKS PORT

KIND is the tiny model's (`tests.tiny`), MODEL its folder.

Prints a JSON list of [grad_norm, loss, theirs: grad_norm, loss] a step.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import cast

import numpy as np

from tests import tiny
from tests.student.verl import engine
from zppo.student.local import LocalStudent
from zppo.student.verl.batch import arrange, deal, update_options
from zppo.student.verl.config import verl_config
from zppo.student.verl.learn import learn, score
from zppo.student.verl.prompts import ServerMedia, StepPrompts
from zppo.types import Group, Response, Rollout, RolloutStatus

UPDATES = 2
ANY_MEDIA = ServerMedia((0, 10**9), (0, 10**9), "vllm")


def main(kind: tiny.Kind, model: str, rank: int, ranks: int, port: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
        "RAY_LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    # transformers as old as verl wants it does not train linear attention prompt-once.
    config = engine.config(Path(model), ranks, "student.share_prompt=false")
    local = LocalStudent.from_config(config)
    local.encoder.placeholder_ids = []  # verl's trainer knows of no tokens that are never sampled
    rng = np.random.default_rng(0)
    prompts = tiny.prompts(kind)
    if kind == "vlm":
        # All with media: verl's optimiser decays parameters that have had no gradient yet, ours
        # leaves them alone.
        prompts[2] = tiny.prompt("Both?", tiny.VIDEO, tiny.IMAGE, name="c")
    rows = StepPrompts(local.encoder, ANY_MEDIA).rows(prompts)
    groups = [Group(p, tuple(rollout(rng) for _ in range(4))) for p in prompts]
    advantages = rng.normal(size=(3, 12))
    advantages[:, :4] = 0.0  # a trivial group, which verl never sees
    # Before verl is there: it replaces methods of the library's model classes.
    theirs = [
        asyncio.run(local.update(groups, some, UPDATES, (0, step))).metrics
        for step, some in enumerate(advantages)
    ]

    from verl.workers.engine_workers import ActorRolloutRefWorker

    tree = verl_config(config, 1_024)
    worker = ActorRolloutRefWorker(config=tree.actor_rollout_ref, role="actor")
    worker.init_model()
    found: list[list[float]] = []
    for step, some in enumerate(advantages):
        plan = arrange(
            groups,
            some,
            [len(row.ids) for row in rows],
            UPDATES,
            ranks,
            np.random.default_rng([0, step]),
        )
        mine = deal(plan, groups, rows, some)[rank]
        old = score(worker, mine, 1.0)
        assert old is not None
        metrics = learn(worker, mine, old, update_options(plan, 1.0))
        assert metrics is not None and len(metrics["grad_norm"]) == UPDATES
        ours = [float(np.mean(metrics[name])) for name in ("grad_norm", "loss")]
        found.append([*ours, theirs[step]["grad_norm"], theirs[step]["loss"]])
    print(json.dumps(found))


def rollout(rng: np.random.Generator) -> Rollout:
    ids = rng.integers(8, 200, int(rng.integers(2, 20)))
    return Rollout(Response(ids, None, "", True), 0.0, RolloutStatus.GRADED)


if __name__ == "__main__":
    _, kind, model, rank, ranks, port = sys.argv
    main(cast(tiny.Kind, kind), model, int(rank), int(ranks), port)
