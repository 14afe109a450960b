"""The paper's recipes say what the paper says, and a step of them has the paper's batch sizes."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import yaml

from zppo.algorithm.zone import replay_size, share_of
from zppo.config import RECIPES, Config, load_config, recipe_names
from zppo.student.batching import mini_batches
from zppo.types import Group, GroupKind, Prompt, Question, Response, Rollout, RolloutStatus

STUDENTS = {
    "qwen3.5-0.8b": "Qwen/Qwen3.5-0.8B",
    "qwen3.5-2b": "Qwen/Qwen3.5-2B",
    "qwen3.5-4b": "Qwen/Qwen3.5-4B",
    "qwen3.5-9b": "Qwen/Qwen3.5-9B",
}

#: Copied by hand from the method's description (arXiv:2606.18216v1), by its sections.
PAPER = {
    # 1 and 2: symbols, teacher, zone
    "method": "zppo",
    "algorithm.group_size": 8,
    "algorithm.teacher_samples": 4,
    "algorithm.hard_threshold": 0.5,
    "algorithm.rho_replay": 0.25,
    "algorithm.rho_aug": 0.25,
    "algorithm.compress": "teacher",
    # 3: advantage, loss, batch, optimiser, rollouts
    "algorithm.normalize": "nonzero",
    "optimizer.clip_low": 0.20,
    "optimizer.clip_high": 0.28,
    "optimizer.dual_clip": 10.0,
    "optimizer.lr": 1e-6,
    "optimizer.betas": (0.9, 0.999),
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.1,
    "optimizer.max_grad_norm": 1.0,
    "optimizer.updates_per_step": 4,
    "run.prompts_per_step": 384,
    "run.steps": 200,
    "student.dtype": "bf16",
    "student.lora": None,
    "data.max_prompt_tokens": 4_096,
    "rollout.max_response_tokens": 12_288,
    "rollout.temperature": 1.0,
    "rollout.top_p": 1.0,
    "rollout.top_k": 0,
    "rollout.min_p": 0.0,
    "rollout.presence_penalty": 0.0,
    "rollout.repetition_penalty": 1.0,
    # 4: buffer
    "algorithm.buffer_capacity": 10_000,
    # 5: the Prefix baseline
    "algorithm.prefix_fraction": 0.4,
    # 6: compression
    "algorithm.candidate_max_tokens": 512,
    # 8: row filters
    "data.max_answer_chars": 512,
    "data.min_image_side": 100,
    # 9: evaluation
    "evaluation.temperature": 0.6,
    "evaluation.top_p": 0.95,
    "evaluation.top_k": 20,
    "evaluation.presence_penalty": 1.5,
    "evaluation.max_response_tokens": 12_288,
    "evaluation.samples": 1,
    "data.min_pixels": 256 * 32 * 32,
    "data.max_pixels": 1_280 * 32 * 32,
}


def test_every_model_of_the_paper_has_a_recipe() -> None:
    assert set(recipe_names()) == {"lab", "lab-habit", *STUDENTS}


@pytest.mark.parametrize("name", STUDENTS)
def test_a_recipe_has_every_value_of_the_paper(name: str) -> None:
    config = load_config(name)
    values = {key: reduce(getattr, key.split("."), config) for key in PAPER}
    assert values == PAPER
    assert config.student.model == STUDENTS[name]
    assert config.student.engine == "local"
    assert config.teacher is not None
    assert config.teacher.kind == "local"
    assert config.teacher.model == "Qwen/Qwen3.5-27B"


@pytest.mark.parametrize("name", STUDENTS)
def test_a_recipe_writes_the_values_out(name: str) -> None:
    """A reader of the file must not have to know the defaults."""
    tree = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    written = {
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in tree.items()
        for key in (value if isinstance(value, dict) else [""])
    }
    assert set(PAPER) <= written


def test_the_defaults_are_the_recipe() -> None:
    """What a config leaves out is the paper's, whichever recipe is not named."""
    default = Config.model_validate({"method": "grpo"})
    chosen = {"method", "student.dtype"}  # no teacher in the default; bf16 depends on the device
    for key in set(PAPER) - chosen:
        assert reduce(getattr, key.split("."), default) == PAPER[key], key


def fake_group(name: str, kind: GroupKind, size: int) -> Group:
    question = Question(name, name, "1")
    response = Response(np.array([1]), np.zeros(1, np.float32), "", True)
    rollout = Rollout(response, 0.0, RolloutStatus.GRADED)
    return Group(Prompt(question, kind, name), (rollout,) * size)


def test_a_step_of_the_paper_is_four_updates_of_144_groups() -> None:
    """384 new + 96 replayed + at most 96 reformulated groups of 8, in 4 equal mini-batches; 96 a
    mini-batch are new, as in 384 = 4 * 96."""
    config = load_config("qwen3.5-2b")
    new = config.run.prompts_per_step
    replayed = replay_size(config.algorithm.rho_replay, new, config.algorithm.buffer_capacity)
    cap = share_of(config.algorithm.rho_aug, new)
    assert (new, replayed, cap) == (384, 96, 96)

    size = config.algorithm.group_size
    groups = [fake_group(f"x{i}", GroupKind.PLAIN, size) for i in range(new + replayed)]
    groups += [fake_group(f"x{i // 2}", k, size) for i, k in enumerate(_alternating(cap))]
    assert len(groups) == 576

    updates = config.optimizer.updates_per_step
    batches = mini_batches(groups, updates, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [144] * 4
    assert [sum(len(p.rows) for p in batch) for batch in batches] == [1_152] * 4
    flat = sorted(i for batch in batches for piece in batch for i in piece.flat)
    assert flat == list(range(576 * 8)), "each rollout enters exactly one update"


def test_a_first_step_without_buffer_and_hard_questions_is_four_times_96() -> None:
    groups = [fake_group(f"x{i}", GroupKind.PLAIN, 8) for i in range(384)]
    batches = mini_batches(groups, 4, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [96] * 4


def test_a_run_of_the_paper_is_one_pass_over_its_corpus() -> None:
    config = load_config("qwen3.5-9b")
    assert config.run.steps * config.run.prompts_per_step == 76_800
    assert config.run.steps * config.optimizer.updates_per_step == 800


def _alternating(n: int) -> list[GroupKind]:
    return [GroupKind.BCQ, GroupKind.NCQ] * (n // 2)


EXAMPLES = sorted(
    file
    for file in (Path(__file__).parents[2] / "examples").rglob("*.yaml")
    # Declarations of benchmarks are no configs, and the cluster's files have tests of their own.
    if file.parent.name not in ("benchmarks", "cluster")
)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_an_example_config_loads(file: Path) -> None:
    config = load_config(file)
    assert config.data.validation is not None, "an example shows accuracy before and after"


def test_there_are_examples() -> None:
    names = {f"{f.parent.name}/{f.name}" for f in EXAMPLES}
    assert names >= {
        "smollm2/full.yaml",
        "smollm2/lora.yaml",
        "easy_vqa/grpo.yaml",
        "easy_vqa/zppo.yaml",
    }


def test_a_folder_does_not_hide_the_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("lab", []) == load_config(None, [])
