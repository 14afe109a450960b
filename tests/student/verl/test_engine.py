"""The contract of the cluster engine, on a CPU with one rank and with two: same update as the
embedded engine, exactly I of them, whole runs, resume, export, and what goes wrong in rollouts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from tests import tiny
from tests.e2e.test_methods import LuckyGrader
from tests.runs.fakes import comparable
from tests.student.verl import engine as e
from zppo.config import Config
from zppo.errors import EngineError
from zppo.runs.export import export
from zppo.runs.train import resume, train
from zppo.types import GroupKind

pytestmark = [pytest.mark.verl, pytest.mark.skipif(not e.READY, reason=e.REASON)]

PROMPTS = tiny.prompts("llama")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("verl")
    return SimpleNamespace(
        root=root,
        model=e.write_model(root / "model"),
        questions=e.write_questions(root / "questions.jsonl"),
    )


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with e.ray_of_cpus():
        yield


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def engine(request, ray_here, files) -> Iterator[SimpleNamespace]:
    from zppo.student.verl.student import VerlStudent

    config = e.config(files.model, request.param)
    student = VerlStudent.from_config(config)
    fresh = files.root / f"fresh-{request.param}"
    fresh.mkdir()
    student.save(fresh)
    yield SimpleNamespace(student=student, config=config, ranks=request.param, fresh=fresh)
    student.close()


@pytest.fixture
def student(engine):
    """The engine with the weights and the optimiser it started with."""
    engine.student.load(engine.fresh)
    return engine.student


@contextmanager
def _optimizer_of(config: Config, student: Any) -> Iterator[None]:
    """What is loaded meanwhile gets the optimiser's settings of another config."""
    before, student.config = student.config, config
    try:
        yield
    finally:
        student.config = before


def test_the_update_is_that_of_the_embedded_engine(engine, student):
    from zppo.student.local import LocalStudent

    local = LocalStudent.from_config(engine.config)

    async def both() -> list[tuple[dict, dict]]:
        responses = await e.sample(student, PROMPTS, 4, 1)
        found = []
        for step in range(3):
            groups = e.groups_of(PROMPTS, responses, seed=step)
            advantages = e.advantages_of(groups)
            await student.release()
            ours = await student.update(groups, advantages, 1, (0, step))
            theirs = await local.update(groups, advantages, 1, (0, step))
            found.append((dict(ours.metrics), dict(theirs.metrics)))
        return found

    for ours, theirs in e.run(both()):
        assert theirs["grad_norm"] > 0.1
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("groups, updates", [(3, 4), (3, 2), (1, 3)])
def test_exactly_i_updates_whatever_the_number_of_groups(student, groups, updates):
    def steps(worker) -> float:
        state = worker.actor.engine.optimizer.state
        return max((float(s["step"]) for s in state.values()), default=0.0)

    async def learn():
        responses = await e.sample(student, PROMPTS[:groups], 4, 2)
        some = e.groups_of(PROMPTS[:groups], responses, seed=5)
        return await student.update(some, e.advantages_of(some), updates, (0, 1))

    before = student.cluster.on_each_worker(steps)
    assert e.run(learn()).updates == updates
    after = student.cluster.on_each_worker(steps)
    assert [b - a for a, b in zip(before, after, strict=True)] == [updates] * len(before)


def test_an_update_without_any_gradient_is_taken_and_changes_little(student):
    async def learn():
        responses = await e.sample(student, PROMPTS, 4, 2)
        groups = [
            dataclasses.replace(
                g, rollouts=tuple(dataclasses.replace(r, reward=1.0) for r in g.rollouts)
            )
            for g in e.groups_of(PROMPTS, responses, seed=5)
        ]
        return await student.update(groups, e.advantages_of(groups), 2, (0, 1))

    stats = e.run(learn())
    assert stats.updates == 2
    assert stats.metrics["grad_norm"] == 0.0


def test_grpo_runs_from_its_config_and_the_reward_rises(engine, student, files):
    config = e.config(
        files.model,
        engine.ranks,
        f"data.train={files.questions}",
        f"run.dir={files.root}/grpo-{engine.ranks}",
        "run.steps=8",
        "algorithm.group_size=8",
        "optimizer.lr=3e-2",
    )
    with _optimizer_of(config, student):
        student.load(engine.fresh)
    train(config, build=e.same_engine(e.Stays(student), e.LikesVowels()), quiet=True)
    rewards = [row["accuracy/plain"] for row in comparable(Path(config.run.dir))]
    assert len(rewards) == 8
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 0.3
    engine_tree = yaml.safe_load((Path(config.run.dir) / "engine.yaml").read_text())
    assert engine_tree["actor_rollout_ref"]["actor"]["clip_ratio_high"] == 0.28


def test_a_zppo_run_resumed_is_a_zppo_run_uninterrupted(engine, student, files):
    def settings(name: str, steps: int):
        return e.config(
            files.model,
            engine.ranks,
            f"data.train={files.questions}",
            f"run.dir={files.root}/{name}-{engine.ranks}",
            f"run.steps={steps}",
            "run.checkpoint_every=1",
            "algorithm.rho_replay=0.5",
            method="zppo",
        )

    build = e.same_engine(e.Stays(student), LuckyGrader())
    whole, parts = settings("whole", 3), settings("parts", 2)
    train(whole, build=build, quiet=True)
    rows = comparable(Path(whole.run.dir))
    kinds = {kind for row in rows for kind in GroupKind if row.get(f"groups/{kind}")}
    assert {GroupKind.PLAIN, GroupKind.BCQ, GroupKind.NCQ} <= kinds
    assert all(row["update/count"] == 2 for row in rows)

    student.load(engine.fresh)
    train(parts, build=build, quiet=True)
    student.load(engine.fresh)
    resume(parts.run.dir, ["run.steps=3"], build=build, quiet=True)
    assert comparable(Path(parts.run.dir)) == rows


def test_an_exported_model_loads_in_transformers_and_is_the_trained_one(engine, student, files):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = files.root / f"grpo-{engine.ranks}"
    out = export(run, files.root / f"out-{engine.ranks}")
    assert not (out / "verl").exists()
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.float32
    student.load(run / "checkpoints/step-000008")
    [[response]] = e.run(e.sample(student, PROMPTS[:1], 1, 3))
    ids = [*AutoTokenizer.from_pretrained(out)(student.rendered(PROMPTS[0]))["input_ids"]]
    logits = model(torch.tensor([[*ids, *response.token_ids]])).logits[0, len(ids) - 1 : -1]
    own = logits.log_softmax(-1).gather(-1, torch.from_numpy(response.token_ids)[:, None])
    np.testing.assert_allclose(own[:, 0].detach(), response.logprobs, atol=1e-5)


def test_a_checkpoint_loads_on_another_number_of_ranks(engine, student, files):
    """One rank trains, saves and trains on; two ranks load and train on to the same numbers."""

    async def learn(seed: int):
        groups = e.groups_of(PROMPTS, responses, seed)
        await student.release()
        return (await student.update(groups, e.advantages_of(groups), 1, (0, seed))).metrics

    folder = files.root / "one-rank"
    responses = files.responses = getattr(files, "responses", None) or e.run(
        e.sample(student, PROMPTS, 4, 7)
    )
    if engine.ranks == 1:
        e.run(learn(1))
        folder.mkdir()
        student.save(folder)
        files.expected = e.run(learn(2))
        return
    if not folder.exists():
        pytest.skip("the test with one rank has not run")
    student.load(folder)
    metrics = e.run(learn(2))
    assert metrics["grad_norm"] == pytest.approx(files.expected["grad_norm"], rel=1e-5)
    assert metrics["loss"] == pytest.approx(files.expected["loss"], rel=1e-4, abs=1e-6)
    steps = student.cluster.on_each_worker(
        lambda worker: {float(s["step"]) for s in worker.actor.engine.optimizer.state.values()}
    )
    assert steps == [{2.0}, {2.0}]


def test_a_resumed_run_may_have_another_learning_rate(engine, student, files):
    changed = e.config(files.model, engine.ranks, "optimizer.lr=7e-5")
    with _optimizer_of(changed, student):
        student.load(engine.fresh)
    rates = student.cluster.on_each_worker(
        lambda worker: [g["lr"] for g in worker.actor.engine.optimizer.param_groups]
    )
    assert rates == [[7e-5]] * engine.ranks


def _misbehave(student, fault: str) -> None:
    import ray

    for replica in student.cluster.servers.get_replicas():
        ray.get(replica.servers[0].misbehave.remote(fault))


def test_stale_weights_are_found_out(student):
    async def learn_and_publish():
        responses = await e.sample(student, PROMPTS, 4, 1)
        groups = e.groups_of(PROMPTS, responses, seed=1)
        await student.release()
        await student.update(groups, e.advantages_of(groups), 2, (0, 1))
        await student.publish()

    e.run(learn_and_publish())
    assert max(student.fingerprint.gaps) < 1e-5
    _misbehave(student, "stale")
    try:
        with pytest.raises(EngineError, match="does not have the trainer's weights"):
            e.run(learn_and_publish())
    finally:
        _misbehave(student, "")


def test_a_failed_rollout_is_a_status_and_many_stop_the_run(engine, student, files):
    options = student.options
    config = e.config(
        files.model,
        engine.ranks,
        f"data.train={files.questions}",
        f"run.dir={files.root}/faults-{engine.ranks}",
        "run.steps=1",
        "verl.max_failed_rollout_share=0.5",
    )
    student.requests.options = config.verl
    _misbehave(student, "refuse:5")
    try:
        build = e.same_engine(e.Stays(student), LuckyGrader())
        train(config, build=build, quiet=True)
        [row] = comparable(Path(config.run.dir))
        assert row["status/rollout_error"] > 0
        assert row["status/rollout_error"] + row["status/graded"] == 24
        student.requests.options = options
        _misbehave(student, "refuse:2")
        with pytest.raises(EngineError, match=r"rollouts failed.*refused on order"):
            e.run(e.sample(student, PROMPTS, 4, 1))
    finally:
        student.requests.options = options
        _misbehave(student, "")


def test_rollouts_repeat_with_their_seed_and_differ_without(student):
    first, again, other = (e.run(e.sample(student, PROMPTS, 2, seed)) for seed in (1, 1, 2))
    as_lists = [
        [[r.token_ids.tolist() for r in group] for group in some] for some in (first, again, other)
    ]
    assert as_lists[0] == as_lists[1] != as_lists[2]
    assert Counter(r.failure for group in first for r in group) == {None: 6}
