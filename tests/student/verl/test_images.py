"""Images and videos through the cluster engine, on a CPU: a tiny Qwen3.5, one rank and two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.e2e.test_methods import LuckyGrader
from tests.runs.fakes import comparable
from tests.student.verl import engine as e
from zppo.runs.train import train
from zppo.student.verl.batch import arrange, deal
from zppo.types import GroupKind, Media, Prompt

pytestmark = [pytest.mark.verl, pytest.mark.skipif(not e.READY, reason=e.REASON)]

PROMPTS = [*tiny.prompts("vlm"), tiny.prompt("Both?", tiny.VIDEO, tiny.IMAGE, name="d")]


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def engine(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    from zppo.student.verl.student import VerlStudent

    root: Path = tmp_path_factory.mktemp("vlm")
    settings = [
        *("data.train=lab:train", "data.limit=32", "data.min_image_side=16", "data.min_pixels=256"),
        # What a trainer holds possible and a server never samples has some share in a tiny model.
        *("verl.fingerprint_tolerance=0.05", f"run.dir={root}/run", "run.steps=2"),
        *("algorithm.rho_replay=0.5", "optimizer.lr=1e-2"),
    ]
    config = e.config(e.write_model(root / "model", kind="vlm"), request.param, *settings)
    config = config.model_copy(update={"method": "zppo"})
    with e.ray_of_cpus():
        student = VerlStudent.from_config(config)
        yield SimpleNamespace(student=student, config=config)
        student.close()


def sampled(student: Any) -> list[Any]:
    """Two responses a prompt from the whole vocabulary, as the trainer scores them: a server leaves
    out the placeholders of pictures, which have some probability in a tiny model. They must not be
    in the responses either, so the seed is one that draws none."""
    banned, student.requests.banned = student.requests.banned, []
    try:
        for seed in range(50):
            responses = e.run(e.sample(student, PROMPTS, 2, seed))
            tokens = {int(t) for group in responses for r in group for t in r.token_ids}
            if not tokens & set(banned):
                assert all(r.failure is None for group in responses for r in group)
                return responses
    finally:
        student.requests.banned = banned
    raise AssertionError("no seed of 50 draws no placeholder")


def trained_logprobs(student: Any, prompts: list[Prompt], responses: list[Any]) -> list[np.ndarray]:
    """The trainer's log-probs of each response, in order."""
    groups = e.groups_of(prompts, responses, seed=1)
    rows = student.prompts.rows(prompts)
    ones = np.ones(sum(map(len, responses)))
    lengths = [len(row.ids) for row in rows]
    plan = arrange(groups, ones, lengths, 1, student.cluster.ranks, np.random.default_rng(0))
    dealt = deal(plan, groups, rows, ones)
    parts = zip(dealt, e.run(student._logprobs(dealt)), strict=True)
    scored = [row for part, flat in parts for row in part.split(flat)]
    found = dict(zip(plan.rollout.tolist(), scored, strict=True))
    return [found[i] for i in range(len(ones))]


def test_a_server_samples_from_the_prompts_that_the_trainer_learns_from(engine):
    """Log-probs agree for an image, a video, no media and both, so ids, positions and pixels do;
    those of another picture or film do not."""
    student = engine.student
    responses = sampled(student)
    flat = [r for group in responses for r in group]
    trained = trained_logprobs(student, PROMPTS, responses)
    for response, theirs in zip(flat, trained, strict=True):
        np.testing.assert_allclose(response.logprobs, theirs, atol=1e-4)
    film = tuple(reversed(tiny.VIDEO.parts))
    others = [Media("image", (tiny.png(48, 16, seed=9),)), Media("video", film, fps=2.0)]
    shown = [tiny.prompt(p.text, media) for p, media in zip(PROMPTS, others, strict=False)]
    for theirs, wrong in zip(
        trained, trained_logprobs(student, shown, responses[:2]), strict=False
    ):
        assert np.abs(theirs - wrong).max() > 0.01


def test_a_zppo_run_on_images(engine):
    train(engine.config, build=e.same_engine(e.Stays(engine.student), LuckyGrader()), quiet=True)
    rows = comparable(Path(engine.config.run.dir))
    kinds = {kind for row in rows for kind in GroupKind if row.get(f"groups/{kind}")}
    assert {GroupKind.PLAIN, GroupKind.BCQ, GroupKind.NCQ} <= kinds
    assert all(row["update/count"] == 2 and row["update/grad_norm"] > 0 for row in rows)
    assert not any(row.get("status/rollout_error") for row in rows)
    assert max(engine.student.fingerprint.gaps) < 0.05
