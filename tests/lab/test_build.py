"""Pre-training: repeatable from its seed, and exact when it is stopped and resumed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zppo.lab import build as building
from zppo.lab.measure import measure
from zppo.lab.negatives import Negatives
from zppo.lab.puzzles import puzzle, questions, trace_digits, wrong_response
from zppo.lab.recipes import RECIPES, Stage

STAGES = (
    Stage(
        "one", 3, {"plain/text": 2, "caption/image": 2}, {"text": {2: 1}, "image": {2: 1}}, (1, 0)
    ),
    Stage("two", 3, {"bcq/text": 2, "ncq/text": 1}, {"text": {3: 1}}, (1e-3, 1e-4), refresh=2),
)


def mistakes(model, tokenizer, seed: str, levels, each: int) -> Negatives:
    """As if the model had been asked: an untrained one answers nothing that can be read."""
    rng = random.Random(seed)
    question = puzzle("text", 3, seed)
    digits = trace_digits(question.reference or "")
    return Negatives({("text", 3): [(digits, (wrong_response(question, rng),))]})


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(building, "sample_negatives", mistakes)
    monkeypatch.setattr(building, "SAVE_EVERY", 1)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_stopped_build_resumes_to_the_same_weights(tmp_path: Path, monkeypatch):
    building.pretrain(tmp_path / "a", STAGES, "student", 0, tmp_path / "aw", None)
    update, calls = building._update, []

    def fail_at_fifth(*args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(building, "_update", fail_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        building.pretrain(tmp_path / "b", STAGES, "student", 0, tmp_path / "bw", None)
    monkeypatch.setattr(building, "_update", update)
    building.pretrain(tmp_path / "b", STAGES, "student", 0, tmp_path / "bw", None)
    whole, resumed = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_build_can_start_from_another(tmp_path: Path):
    building.pretrain(tmp_path / "a", STAGES[:1], "student", 0, tmp_path / "aw", None)
    building.pretrain(tmp_path / "b", (), "teacher", 1, tmp_path / "bw", tmp_path / "aw/one.pt")
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_recipes_name_levels_for_all_they_mix():
    for stages in RECIPES.values():
        for stage in stages:
            for kind in stage.mixture:
                assert kind in stage.levels or kind.split("/")[1] in stage.levels


def test_measure_reports_all_wrong_groups(tmp_path: Path):
    building.pretrain(tmp_path / "a", (), "student", 0, tmp_path / "aw", None)
    from zppo.lab.measure import load

    result = measure(*load(tmp_path / "a"), questions("validation")[:3])
    assert result["plain"] == 0.0 and result["all_wrong"] == 1.0
    assert result["on_all_wrong"]["questions"] == 3
