"""Every row of the paper's ablations, and what goes beyond the paper, is a setting: whole runs
with a fake student, and a look at what the setting changed."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.runs.fakes import FakeStudent, comparable, fake_build, fake_config
from zppo.config import Config, load_config
from zppo.runs.build import RunParts
from zppo.runs.train import resume, train
from zppo.types import Group, GroupKind, GroupOutcome, UpdateStats

METHODS_DOC = Path(__file__).parents[2] / "docs" / "methods.md"


@dataclass
class Seen:
    """What the student was asked for in a run."""

    updates: list[int] = field(default_factory=list)
    groups: list[Sequence[Group]] = field(default_factory=list)
    advantages: list[np.ndarray] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)

    def of_kind(self, kind: GroupKind) -> list[Group]:
        return [g for groups in self.groups for g in groups if g.kind is kind]


class Recording(FakeStudent):
    def __init__(self, config: Config, seen: Seen) -> None:
        super().__init__(config)
        self.seen = seen

    async def update(
        self, groups: Sequence[Group], advantages: np.ndarray, updates: int, seed: Sequence[int]
    ) -> UpdateStats:
        self.seen.updates.append(updates)
        self.seen.groups.append(groups)
        self.seen.advantages.append(advantages)
        return await super().update(groups, advantages, updates, seed)


def run(root: Path, *overrides: str) -> Seen:
    seen = Seen()

    def build(config: Config) -> RunParts:
        parts = fake_build(config)
        return replace(parts, step=replace(parts.step, student=Recording(config, seen)))

    config = fake_config(root, "run.steps=3", "algorithm.rho_aug=0.5", *overrides)
    assert train(config, build=build, quiet=True).complete
    seen.rows = comparable(root)
    return seen


@pytest.mark.parametrize("updates", [1, 4, 8, 16])
def test_updates_a_step(updates: int, tmp_path: Path) -> None:
    seen = run(tmp_path / "run", f"optimizer.updates_per_step={updates}")
    assert seen.updates == [updates] * 3 == [row["update/count"] for row in seen.rows]


@pytest.mark.parametrize("normalize", ["none", "nonzero", "all"])
def test_normalisation(normalize: str, tmp_path: Path) -> None:
    seen = run(tmp_path / "run", f"algorithm.normalize={normalize}")
    for groups, advantages in zip(seen.groups, seen.advantages, strict=True):
        mixed = np.repeat([g.outcome is GroupOutcome.MIXED for g in groups], 4)
        assert not mixed.all() and np.all((advantages != 0) == mixed)
        spread = {"nonzero": advantages[mixed].std(), "all": advantages.std()}
        if normalize == "none":
            assert set(np.abs(advantages[mixed])) <= {0.25, 0.5, 0.75}
        else:
            np.testing.assert_allclose(spread[normalize], 1.0, rtol=1e-4)


@pytest.mark.parametrize("fraction", [0.2, 0.8])
def test_prefix_fraction(fraction: float, tmp_path: Path) -> None:
    overrides = ["method=grpo+replay+prefix", f"algorithm.prefix_fraction={fraction}"]
    seen = run(tmp_path / "run", *overrides)
    groups = seen.of_kind(GroupKind.PREFIX)
    assert groups
    for group in groups:  # the fake student's tokens are characters
        whole = len(f"\\boxed{{{group.question.answer}}}")
        assert len(group.prompt.prefix_ids) == int(whole * fraction)


@pytest.mark.parametrize("rho", [0.0, 0.25, 1.0])
def test_shares_of_replayed_and_reformulated_prompts(rho: float, tmp_path: Path) -> None:
    seen = run(tmp_path / "run", f"algorithm.rho_replay={rho}", f"algorithm.rho_aug={rho}")
    most = int(rho * 8)
    replayed = [sum(g.replayed for g in groups) for groups in seen.groups]
    extra = [sum(g.kind is not GroupKind.PLAIN for g in groups) for groups in seen.groups]
    assert max(replayed) <= most and max(extra) == most


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_hard_threshold(tau: float, tmp_path: Path) -> None:
    seen = run(tmp_path / "run", f"algorithm.hard_threshold={tau}", "algorithm.rho_aug=1.0")
    admitted = {a for row in seen.rows for a in row["buffer/composition"]}
    accuracies = {f"{g.accuracy:.3f}" for g in seen.of_kind(GroupKind.PLAIN)}
    assert admitted and admitted <= {a for a in accuracies if float(a) < tau}
    assert tau < 1.0 or any(float(a) >= 0.5 for a in admitted)


def test_buffer_size(tmp_path: Path) -> None:
    seen = run(tmp_path / "run", "algorithm.buffer_capacity=2")
    assert [row["buffer/size"] for row in seen.rows] == [2, 2, 2]
    assert sum(row["buffer/evicted"] for row in seen.rows) > 0


@pytest.mark.parametrize("size", [2, 16])
def test_group_size(size: int, tmp_path: Path) -> None:
    seen = run(tmp_path / "run", f"algorithm.group_size={size}")
    assert {len(g.rollouts) for groups in seen.groups for g in groups} == {size}


@pytest.mark.parametrize("samples", [1, 6])
def test_teacher_samples(samples: int, tmp_path: Path) -> None:
    seen = run(tmp_path / "run", f"algorithm.teacher_samples={samples}")
    # The fake teacher is wrong once a question, so with one sample there is no BCQ.
    assert bool(seen.of_kind(GroupKind.BCQ)) == (samples > 1)
    right = {row["teacher/accuracy"] for row in seen.rows}
    assert right == {(samples - 1) / samples}


# -- beyond the paper ---------------------------------------------------------------------------


def test_trivial_questions_can_be_dropped_after_reformulation(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "optimizer.updates_per_step=2")
    seen = run(
        tmp_path / "run", "optimizer.updates_per_step=2", "algorithm.drop_trivial_questions=true"
    )
    assert "update/dropped_groups" not in whole.rows[0]
    kept, all_of_them = seen.groups[0], whole.groups[0]
    alive = {g.question.id for g in all_of_them if g.outcome is GroupOutcome.MIXED}
    assert [g.prompt for g in kept] == [g.prompt for g in all_of_them if g.question.id in alive]
    assert any(g.outcome is GroupOutcome.ALL_WRONG for g in kept)  # saved by its BCQ or NCQ
    dropped = len(all_of_them) - len(kept)
    assert seen.rows[0]["update/dropped_groups"] == dropped > 0
    # Normalised over non-trivial groups, what stays has the advantages it would have had.
    stays = np.repeat([g.question.id in alive for g in all_of_them], 4)
    np.testing.assert_array_equal(seen.advantages[0], whole.advantages[0][stays])
    # The buffer and the logs know of all of them.
    for key in ("buffer/size", "buffer/admitted", "groups/total", "accuracy/plain"):
        assert seen.rows[0][key] == whole.rows[0][key]
    with_advantage = _logged_advantages(tmp_path / "run")
    assert len(with_advantage) == 4 * len(all_of_them)


def _logged_advantages(root: Path) -> list[float]:
    with gzip.open(root / "rollouts/step-000001.jsonl.gz") as file:
        rows = [json.loads(line) for line in file]
    return [r["advantage"] for row in rows if row["type"] == "group" for r in row["rollouts"]]


@pytest.mark.parametrize("skill, updates", [(0.0, 0), (0.04, None)])
def test_a_step_may_have_fewer_rollouts_left_than_updates(
    skill: float, updates: int | None, tmp_path: Path
) -> None:
    asked: list[int] = []

    def build(config: Config) -> RunParts:
        seen = Seen(updates=asked)
        parts = fake_build(config)
        student = Recording(config, seen)
        student.skill = skill
        return replace(parts, step=replace(parts.step, student=student))

    overrides = ["algorithm.drop_trivial_questions=true", "optimizer.updates_per_step=16"]
    config = fake_config(tmp_path / "run", "method=grpo", "run.steps=2", *overrides)
    assert train(config, build=build, quiet=True).complete
    counts = [row["update/count"] for row in comparable(tmp_path / "run")]
    if updates == 0:
        assert counts == [0, 0] and asked == []
    else:
        assert [c for c in counts if c] == asked and 0 < min(counts) < 16


class Parrot(FakeStudent):
    """Its wrong answers are all the same, so NCQ prompts list what it will say again."""

    def _respond(self, prompt, seed):
        response = super()._respond(prompt, seed)
        if f"{{{prompt.question.answer}}}" in response.text:
            return response
        return replace(response, text="<think>so</think> \\boxed{1999}")


def parrot_build(config: Config) -> RunParts:
    parts = fake_build(config)
    return replace(parts, step=replace(parts.step, student=Parrot(config)))


def test_the_ncq_gate_closes_and_stays_closed_over_a_resume(tmp_path: Path) -> None:
    overrides = ["algorithm.ncq_gate=0.4", "algorithm.rho_aug=0.5", "run.steps=4"]
    overrides += ["run.checkpoint_every=1"]
    root = tmp_path / "run"
    assert train(fake_config(root, *overrides), build=parrot_build, quiet=True).complete
    rows = comparable(root)
    assert rows[0]["groups/ncq"] > 0 and rows[0]["ncq/match_neg"] >= 0.4
    assert [row["ncq/gate_open"] for row in rows] == [0.0] * 4
    assert not any("groups/ncq" in row for row in rows[1:])
    assert all(row["groups/bcq"] > 0 for row in rows)  # BCQ goes on
    state = json.loads((root / "checkpoints/step-000003/state.json").read_text())
    assert state["ncq_gate"] == {"average": rows[0]["ncq/match_neg_average"]}
    (root / "checkpoints/step-000004/state.json").unlink()
    assert resume(root, build=parrot_build, quiet=True).complete
    assert comparable(root) == rows


def test_without_a_gate_the_rate_is_only_measured(tmp_path: Path) -> None:
    root = tmp_path / "run"
    config = fake_config(root, "run.steps=3", "algorithm.rho_aug=0.5")
    assert train(config, build=parrot_build, quiet=True).complete
    rows = comparable(root)
    assert all(row["groups/ncq"] > 0 and row["ncq/match_neg"] > 0 for row in rows)
    assert not any("ncq/gate_open" in row for row in rows)


# -- the page -----------------------------------------------------------------------------------


def test_every_override_of_the_page_can_be_used() -> None:
    text = METHODS_DOC.read_text("utf-8")
    table = text.partition("## The paper's ablations")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][2:]
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row) if "=" in span]
    assert len(spans) >= 14
    for span in spans:
        load_config("qwen3.5-2b", span.split())
