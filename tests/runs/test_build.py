from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.runs.fakes import FakeStudent, fake_build, fake_config, questions
from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.errors import DataError, ModelError, TeacherError
from zppo.runs import build, memory
from zppo.runs.build import DataParts, check_teacher, family, spread, within_length
from zppo.types import Question


def test_family_is_the_source_up_to_the_slash() -> None:
    assert family(Question("1", "", "", source="image/sums/3")) == "image"
    assert family(Question("1", "", "")) == "other"


def test_a_small_sample_holds_every_family() -> None:
    asked = [Question(str(i), "", "", source="a" if i < 90 else "b") for i in range(100)]
    chosen = spread(asked, 10)
    assert len(chosen) == 10 and sum(family(q) == "b" for q in chosen) == 5
    assert [int(q.id) for q in chosen] == sorted(int(q.id) for q in chosen)
    assert spread(asked, None) == asked == spread(asked, 1_000)


def test_long_prompts_are_left_out_and_counted(tmp_path: Path) -> None:
    config = fake_config(tmp_path, "data.max_prompt_tokens=120")
    asked = [*questions(3), Question("long", "x" * 500, "1")]
    found = within_length(DataParts(asked, []), FakeStudent(config), Templates.default(), config)
    assert [q.id for q in found.train] == ["q0", "q1", "q2"]
    assert any("prompt too long" in note for note in found.notes())


def test_no_prompt_within_the_limit_is_an_error(tmp_path: Path) -> None:
    config = fake_config(tmp_path, "data.max_prompt_tokens=5")
    with pytest.raises(DataError, match=r"no question is left.*data\.max_prompt_tokens"):
        within_length(DataParts(questions(3), []), FakeStudent(config), Templates.default(), config)


def test_a_response_that_fills_the_context_is_an_error(tmp_path: Path) -> None:
    config = fake_config(tmp_path, "rollout.max_response_tokens=10000")
    with pytest.raises(ModelError, match=r"rollout\.max_response_tokens=10000 fills the context"):
        within_length(DataParts(questions(3), []), FakeStudent(config), Templates.default(), config)


def test_the_scripted_teacher_only_knows_the_lab(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"question `q0`.*teacher\.kind=local"):
        check_teacher(fake_config(tmp_path), questions(1))


def test_data_is_read_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build_student", lambda config: pytest.fail("too early"))
    with pytest.raises(DataError, match="No data file"):
        build.build_run(fake_config(tmp_path, "data.train=none.jsonl"))


def test_validation_is_limited_by_its_own_setting(tmp_path: Path) -> None:
    config = fake_config(tmp_path, "data.limit=4", "evaluation.limit=6")
    data = build.build_data(config)
    assert len(data.train) == 4 and len(data.validation) == 6
    assert {family(q) for q in data.validation} == {"text", "image", "video"}


# --- memory ---------------------------------------------------------------------------------------


def _checkpoint(folder: Path, shapes: dict[str, list[int]]) -> Path:
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        for name, shape in shapes.items()
    }
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    config = {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _config(folder: Path, *overrides: str) -> Config:
    device = "student.device=cpu"
    return fake_config(folder / "run", f"student.model={folder}", device, *overrides)


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    assert memory.count_parameters(_checkpoint(tmp_path, {"a": [10, 20], "b": [7]})) == 207
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    assert memory.count_parameters(tmp_path) is None
    assert memory.count_parameters(tmp_path / "none") is None


def test_estimate_follows_dtype_and_adapters(tmp_path: Path) -> None:
    _checkpoint(tmp_path, {"a": [1000, 1000]})
    full = memory.estimate_memory(_config(tmp_path, "student.dtype=fp32"))
    half = memory.estimate_memory(_config(tmp_path, "student.dtype=bf16"))
    lora = memory.estimate_memory(_config(tmp_path, "student.lora.rank=4"))
    assert full is not None and half is not None and lora is not None
    assert (full.weights, full.training) == (4_000_000, 12_000_000)
    assert (half.weights, half.training) == (2_000_000, 16_000_000)  # fp32 masters
    assert lora.training < 100_000


def test_the_estimate_holds_the_judge_that_lives_here(tmp_path: Path) -> None:
    _checkpoint(tmp_path, {"a": [1000, 1000]})
    here = f"judge={{kind: local, model: {tmp_path}, device: cpu, dtype: bf16}}"
    there = "judge={kind: openai, endpoints: [{url: 'http://localhost/v1', model: m}]}"
    local, away = (memory.estimate_memory(_config(tmp_path, judge)) for judge in (here, there))
    assert local is not None and away is not None
    assert (local.judge, away.judge) == (2_000_000, 0)
    assert local.certain - away.certain == 2_000_000 and "judge 2 MiB" in str(local)


def test_too_little_memory_is_said_before_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _checkpoint(tmp_path, {"a": [100_000, 100_000]})
    monkeypatch.setattr(memory, "available_memory", lambda device: 8 * memory.GIB)
    with pytest.raises(ModelError, match=r"needs about 149\.0 GiB.*8\.0 GiB are free.*lora"):
        build.build_student(_config(tmp_path, "student.dtype=fp32"))


def test_a_model_that_is_not_here_is_not_judged(tmp_path: Path) -> None:
    assert memory.estimate_memory(fake_config(tmp_path, "student.model=org/name")) is None


def test_this_machine_has_memory() -> None:
    available = memory.available_memory("cpu")
    assert available is not None and available > 2**20


def test_all_trivial_groups_are_said_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zppo.runs.train import train

    def hopeless(config: Config) -> build.RunParts:
        return fake_build(config, skill=0.0)

    config = fake_config(tmp_path / "run", "run.steps=2", "method=grpo")
    assert train(config, build=hopeless, quiet=True).complete
    out = capsys.readouterr().out
    assert "step 1: in every group" in out and "step 2: in every group" in out
