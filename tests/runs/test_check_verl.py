"""The cluster's preflight, with machines and packages that are not there."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests import tiny
from zppo.config import Config, load_config
from zppo.errors import ConfigError, ModelError
from zppo.runs import check_verl as c
from zppo.runs.check import check
from zppo.runs.memory import GIB
from zppo.types import Question

GOOD = {
    "verl": "0.9.1",
    "ray": "2.60.0",
    "tensordict": "0.10.0",
    "transformers": "5.9.0",
    "TransferQueue": "0.1.11",
    "vllm": "0.24.0",
    "flash-attn": "2.8.3",
    "flash-linear-attention": "0.5.2",
}
EIGHT = c.Node("a", gpus=8, cpus=96, gpu_memory=80 * GIB)
#: Qwen3.5-2B, about.
TEXT = {
    "hidden_size": 2_048,
    "num_hidden_layers": 24,
    "layer_types": ["linear_attention"] * 18 + ["full_attention"] * 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "vocab_size": 248_320,
}


def config(*overrides: str) -> Config:
    return load_config(None, ["method=grpo", "teacher=null", "student.engine=verl", *overrides])


# -- packages -------------------------------------------------------------------------------------


def test_packages_are_listed_with_their_versions() -> None:
    said = c.packages(config(), GOOD.get)
    assert "verl 0.9.1" in said and "vllm 0.24.0" in said and "flash-attn 2.8.3" in said


@pytest.mark.parametrize(
    "name, version, said",
    [
        ("verl", None, r"verl==0.9.1 \(not installed\)"),
        ("verl", "0.8.0", r"verl==0.9.1 \(0.8.0 is here\)"),
        ("transformers", "5.23.0", r"transformers.*\(5.23.0 is here\)"),
        ("TransferQueue", None, r"TransferQueue>=0.1.10 \(not installed\)"),
        ("vllm", "0.32.0", r"vllm==0.24 "),
        ("flash-attn", None, "flash-attn>=2.8"),
    ],
)
def test_a_package_that_does_not_fit_is_named(name: str, version: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        c.packages(config(), {**GOOD, name: version}.get)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        c.packages(config(), lambda name: None)
    assert all(name in str(error.value) for name in c.NEEDED)


def test_what_a_config_does_not_use_is_not_asked_for() -> None:
    padded = 'verl.overrides=["actor_rollout_ref.model.use_remove_padding=false"]'
    without = {k: v for k, v in GOOD.items() if k not in ("vllm", "flash-attn")}
    assert "vllm" not in c.packages(config("verl.rollout=hf", padded), without.get)
    with pytest.raises(ConfigError, match="sglang"):
        c.packages(config("verl.rollout=sglang"), GOOD.get)


def test_linear_attention_needs_its_kernels() -> None:
    """The lab's student is a hybrid."""
    without = {**GOOD, "flash-linear-attention": None}
    with pytest.raises(ConfigError, match="flash-linear-attention"):
        c.packages(config("student.model=lab"), without.get)


# -- placement ------------------------------------------------------------------------------------


def test_the_papers_set_up() -> None:
    said = c.placement(config("verl.nnodes=8", "verl.n_gpus_per_node=6"), [EIGHT] * 8)
    assert said.startswith("48 GPUs: 48 trainer ranks and 48 rollout servers")
    assert "2 GPUs of each are left" in said


@pytest.mark.parametrize(
    "overrides, nodes, said",
    [
        (["verl.nnodes=2"], [EIGHT], "2 machines .* 1 are there"),
        (["verl.n_gpus_per_node=8"], [c.Node("a", 6, 96)], "a: 6 GPUs"),
        ([], [], "no machine"),
        ([], [c.Node("a", 8, 4)], "8 are needed"),
        (["verl.n_gpus_per_node=6", "verl.tensor_parallel=4"], [EIGHT], "tensor_parallel=4"),
        (["verl.sequence_parallel=3"], [EIGHT], "sequence_parallel=3"),
    ],
)
def test_what_cannot_be_placed(overrides: list[str], nodes: list[c.Node], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        c.placement(config(*overrides), nodes)


def test_machines_may_be_uneven() -> None:
    small = c.Node("b", gpus=2, cpus=96)
    said = c.placement(config("verl.n_gpus_per_node=6"), [small, EIGHT])
    assert "on 1 of 2 machines" in said


# -- lengths and memory ---------------------------------------------------------------------------


def test_a_micro_batch_holds_the_longest_sequence() -> None:
    tokens = ["student.micro_batch_tokens=16384"]
    with pytest.raises(ConfigError, match="micro_batch_tokens=16384"):
        c.sequence_room(config(*tokens), 16_385)
    assert "16384" in c.sequence_room(config(*tokens), 16_384)
    assert "32768" in c.sequence_room(config(*tokens, "verl.sequence_parallel=2"), 30_000)


def test_memory_follows_from_the_ranks() -> None:
    small = config("student.gradient_checkpointing=true", "student.micro_batch_tokens=1024")
    one, many = (
        c.memory_by_rank(small.model_copy(update={"verl": v}), 2_000_000_000, TEXT)
        for v in (
            small.verl.model_copy(update={"nnodes": 1}),
            small.verl.model_copy(update={"nnodes": 8}),
        )
    )
    # fp32 weight, gradient and two moments, over 8 GPUs and over 64
    assert one.training - many.training == 16 * 2_000_000_000 // 8 * 7 // 8
    assert one.server == many.server == 4_000_000_000
    assert one.kv_token == 2 * 2 * 6 * 2 * 256  # six layers keep keys and values


def test_offloading_frees_what_waits() -> None:
    keys = ("verl.param_offload=true", "verl.optimizer_offload=true")
    kept, gone = (c.memory_by_rank(config(*k), 8_000_000_000, TEXT) for k in ((), keys))
    assert kept.resident - gone.resident == 12 * 1_000_000_000
    assert kept.training == gone.training


@pytest.mark.parametrize(
    "need, said",
    [
        (c.RankMemory(10 * GIB, 90 * GIB, 4 * GIB, 100), "gradient_checkpointing"),
        (c.RankMemory(45 * GIB, 60 * GIB, 4 * GIB, 100), "optimizer_offload"),
        (c.RankMemory(10 * GIB, 60 * GIB, 41 * GIB, 100), "tensor_parallel"),
        (c.RankMemory(10 * GIB, 60 * GIB, 39 * GIB, 100_000), "tensor_parallel"),
    ],
)
def test_too_little_memory_says_what_helps(need: c.RankMemory, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        c.memory(config(), need, 16_384, 80 * GIB)


def test_enough_memory_says_how_many_rollouts_fit() -> None:
    need = c.RankMemory(10 * GIB, 60 * GIB, 4 * GIB, 12 * 1_024)
    assert "192 rollouts of full length" in c.memory(config(), need, 16_384, 80 * GIB)
    assert "No GPU is known" in c.memory(config(), need, 16_384, None)


def test_media_that_no_rollout_server_takes_are_refused(tmp_path: Path) -> None:
    tiny.student("vlm").save(tmp_path)
    questions = [Question("v", "", "", media=(tiny.VIDEO,)), Question("t", "", "")]
    small = ("data.min_pixels=256", "data.max_pixels=16384")
    settings = [f"student.model={tmp_path}", "student.engine=verl", *small]
    c.require_sendable(c.read_only_student(load_config(None, settings)), questions)
    student = c.read_only_student(load_config(None, [*settings, "verl.rollout=sglang"]))
    with pytest.raises(ModelError, match=r"Question `v` has a video.*sglang"):
        c.require_sendable(student, questions)


# -- the command ----------------------------------------------------------------------------------


def run_check(folder: Path, *overrides: str) -> tuple[int, str]:
    file = folder / "rows.jsonl"
    rows = [{"id": str(i), "question": f"{i} + {i}?", "answer": str(2 * i)} for i in range(8)]
    file.write_text("\n".join(map(json.dumps, rows)))
    out = io.StringIO()
    options = [f"data.train={file}", "data.validation=null", f"run.dir={folder / 'run'}"]
    small = ["rollout.max_response_tokens=64", "evaluation.max_response_tokens=64"]
    small += ["data.max_prompt_tokens=128", "student.micro_batch_tokens=8192"]
    failed = check(config(*options, *small, *overrides), Console(file=out, width=400))
    return failed, out.getvalue()


def test_check_starts_no_cluster_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "_installed", {**GOOD, "verl": None}.get)
    monkeypatch.setattr(c, "this_machine", lambda: c.Node("this machine", 0, 2))
    failed, said = run_check(tmp_path)
    assert failed == 2
    assert "FAIL  packages" in said and "verl==0.9.1 (not installed)" in said
    assert "FAIL  cluster" in said and "this machine: 0 GPUs, 2 CPUs" in said
    assert "ok  prompt length" in said and "ok  memory" in said


def test_check_of_a_good_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "_installed", GOOD.get)
    monkeypatch.setattr(c, "this_machine", lambda: EIGHT)
    failed, said = run_check(tmp_path, "verl.n_gpus_per_node=6")
    assert failed == 0, said
    assert "6 trainer ranks" in said and "Ready to train" in said


def test_what_the_engine_cannot_do_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "_installed", GOOD.get)
    monkeypatch.setattr(c, "this_machine", lambda: EIGHT)
    failed, said = run_check(tmp_path, "student.lora.rank=8")
    assert failed == 1 and "leave student.lora out" in said
