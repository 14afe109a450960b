from __future__ import annotations

import json
from pathlib import Path

import pytest

from zppo.config import load_config
from zppo.errors import ConfigError
from zppo.report.cost import Protocol, run_cost
from zppo.report.cost_config import (
    as_it_runs,
    parse_parameters,
    protocol_of,
    student_parameters,
    teacher_parameters,
)
from zppo.report.cost_memory import Memory, guess_shape, predict_memory, shape_of


def test_the_recipes_are_the_papers_protocol() -> None:
    assert Protocol(**protocol_of(load_config("qwen3.5-2b"))) == Protocol()


def test_a_config_is_counted_with_its_own_settings() -> None:
    config = load_config(
        "lab", ["run.steps=5", "algorithm.compress=none", "run.prompts_per_step=4"]
    )
    found = Protocol(**protocol_of(config))
    assert (found.steps, found.prompts_per_step, found.compress) == (5, 4, False)
    assert (found.prompt_tokens, found.response_tokens) == (512, 96)


def test_what_the_engine_spares() -> None:
    config = load_config("lab")
    assert as_it_runs(config, bf16=False) == {
        **{"update_passes": 1, "shared_prompts": True},
        "scoring": False,
    }
    assert as_it_runs(config, bf16=True)["scoring"]
    plain = load_config("lab", ["student.share_prompt=false", "student.old_logprobs=recompute"])
    found = as_it_runs(plain, bf16=False)
    assert found["scoring"] and not found["shared_prompts"]
    ours = run_cost("grpo", 1.0, **(protocol_of(config) | as_it_runs(config, bf16=False)))
    assert ours.flops < run_cost("grpo", 1.0, **protocol_of(config)).flops


def test_parameters_are_counted_read_off_the_name_or_given() -> None:
    assert student_parameters(load_config("lab")) == pytest.approx(506_000, rel=0.01)
    two = load_config("qwen3.5-2b")
    assert (student_parameters(two), teacher_parameters(two)) == (2e9, 27e9)
    assert student_parameters(two, "1.7B") == 1.7e9
    assert teacher_parameters(load_config("lab")) == 0.0  # a program, not a model
    small = load_config("lab", ["student.model=org/SmolLM2-135M-Instruct"])
    assert student_parameters(small) == 135e6
    server = load_config(
        "lab",
        ["teacher={kind: openai, endpoints: [{url: 'http://h/v1', model: Qwen/Qwen3.5-9B}]}"],
    )
    assert teacher_parameters(server) == 9e9


def test_a_size_that_nobody_says() -> None:
    unnamed = load_config("lab", ["student.model=org/Qwen3.5-mini"])
    with pytest.raises(ConfigError, match=r"`org/Qwen3\.5-mini` .* --student-params"):
        student_parameters(unnamed)
    teacher = load_config("lab", ["teacher={kind: local, model: org/big}"])
    with pytest.raises(ConfigError, match=r"teacher `org/big` .* --teacher-params"):
        teacher_parameters(teacher)


@pytest.mark.parametrize(
    ("text", "value"), [("2B", 2e9), ("0.8b", 8e8), ("135M", 135e6), ("7e9", 7e9), ("500k", 5e5)]
)
def test_sizes(text: str, value: float) -> None:
    assert parse_parameters(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "B", "large", "-2B", "nan", "inf"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="no number of parameters"):
        parse_parameters(text)


# --- memory ---------------------------------------------------------------------------------------


def test_memory_by_hand() -> None:
    config = load_config("qwen3.5-2b", ["student.gradient_checkpointing=false"])
    found = predict_memory(config, 2e9, 27e9)
    assert found.guessed
    assert found.weights == 2 * 2e9  # bf16
    assert found.training == 16 * 2e9  # fp32 gradient sums, masters and two moments
    assert found.teacher == 2 * 27e9
    shape = guess_shape(2e9)
    logits = 1_024 * 150_000 * 4
    assert found.activations == pytest.approx(
        16_384 * shape.hidden * 16 * shape.layers * 2 + logits
    )
    assert found.cache == pytest.approx(2 * 131_072 * shape.layers * shape.hidden / 4 * 2)
    assert found.peak == found.weights + found.training + found.teacher + found.activations


def test_settings_that_save_memory_do() -> None:
    def peak(*overrides: str) -> float:
        return predict_memory(load_config("qwen3.5-2b", overrides), 2e9, 27e9).peak

    assert peak("student.gradient_checkpointing=true") < peak()
    assert peak("student.lora.rank=16") < peak() - 30e9
    assert peak("student.micro_batch_tokens=4096") < peak()
    server = "teacher={kind: openai, endpoints: [{url: 'http://h/v1', model: T-27B}]}"
    assert peak(server) == peak() - 54e9
    assert peak("student.dtype=fp32") > peak()


def test_a_checkpoint_on_this_disk_tells_its_own_shape(tmp_path: Path) -> None:
    found = predict_memory(load_config("lab"), 506e3, 0.0)
    assert not found.guessed and found.teacher == 0
    text = {
        **{"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "vocab_size": 100},
        "layer_types": ["linear_attention", "full_attention", "full_attention"],
    }
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    shape = shape_of(tmp_path)
    assert (shape.cached_layers, shape.cache_width) == (2, 32)


def test_a_guessed_shape_has_the_parameters_it_was_guessed_from() -> None:
    shape = guess_shape(2e9)
    assert 12 * shape.layers * shape.hidden**2 == pytest.approx(2e9)
    assert 20 < shape.layers < 40


def test_the_verdict_leaves_room_for_what_the_estimate_misses() -> None:
    memory = Memory(4.0, 4.0, 0.0, activations=2.0, cache=1.0, guessed=False)
    assert memory.peak == 10.0
    assert [memory.verdict(n) for n in (9.9, 10, 12.4, 12.5)] == [
        *("does not fit", "tight", "tight"),
        "fits",
    ]
