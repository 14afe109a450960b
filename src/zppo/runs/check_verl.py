"""The cluster's part of the preflight: what is missing, said before a cluster is asked for.

Nothing here starts a worker. Packages are looked up, GPUs are counted in a Ray that runs already
(or on this machine), and memory follows from the headers of the checkpoint.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from zppo.config import Config
from zppo.errors import ConfigError, ModelError
from zppo.runs.memory import GIB, count_parameters, readable, text_config, weights_folder
from zppo.student.base import Student
from zppo.types import GroupKind, Prompt, Question

#: What runs the engine at all: distribution -> versions. verl's own bounds, and what it imports
#: without asking for it.
NEEDED = {
    "verl": "==0.9.1",
    "ray": ">=2.41",
    "tensordict": ">=0.8,<=0.10,!=0.9",
    "transformers": ">=5.5.3,<5.11,!=5.6",
    "TransferQueue": ">=0.1.10",
}
#: What a GPU run needs besides, by the rollout server: the versions that verl 0.9.1 pins.
SERVERS = {"vllm": ("vllm", "==0.24"), "sglang": ("sglang", "==0.5.12")}
#: Unpadded rows run through it; verl's default.
KERNELS = {"flash-attn": ">=2.8"}
#: Without it linear-attention layers mix the sequences of an unpadded row.
LINEAR_KERNELS = {"flash-linear-attention": ">=0.5"}

#: CPUs that are reserved in Ray for each GPU; it waits for ever for what it has not.
CPUS_A_GPU = 1
#: Of a parameter on the trainer's ranks: fp32 weight, gradient and AdamW's two moments.
_WEIGHT, _GRADIENT, _MOMENTS = 4, 4, 8
#: Of a logit: bf16 from the LM head, fp32 while its log-prob and gradient are made.
_LOGIT = 2 + 4
#: What torch, NCCL and CUDA contexts hold on a GPU.
_CONTEXT = 3 * GIB


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. `gpu_memory` in bytes of one GPU, None where it is not known."""

    name: str
    gpus: int
    cpus: int
    gpu_memory: int | None = None


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes on one GPU of the student: `resident` while the rollout server is awake, `training`
    while it sleeps, `server` for its weights, and `kv_token` that its cache takes a token."""

    resident: int
    training: int
    server: int
    kv_token: int


def packages(config: Config, installed: Callable[[str], str | None] | None = None) -> str:
    """What of the needed packages is here; raises `ConfigError` that names all that is not."""
    from packaging.specifiers import SpecifierSet

    look_up = installed or _installed
    wanted = dict(NEEDED)
    if server := SERVERS.get(config.verl.rollout):
        wanted |= dict([server])
    if unpadded(config):
        wanted |= KERNELS
        if _linear_layers(config):
            wanted |= LINEAR_KERNELS
    found = {name: look_up(name) for name in wanted}
    missing = [
        f"{name}{wanted[name]} ({f'{version} is here' if version else 'not installed'})"
        for name, version in found.items()
        if version is None or not SpecifierSet(wanted[name]).contains(version, prereleases=True)
    ]
    if missing:
        raise ConfigError(
            f"student.engine=verl needs {', '.join(missing)}. docs/cluster.md says how its "
            "environment is made."
        )
    return ", ".join(f"{name} {version}" for name, version in found.items())


def placement(config: Config, nodes: Sequence[Node]) -> str:
    """Where the ranks go; raises `ConfigError` when they cannot all be placed."""
    v = config.verl
    world = v.nnodes * v.n_gpus_per_node
    for key, value in (
        ("tensor_parallel", v.tensor_parallel),
        ("sequence_parallel", v.sequence_parallel),
    ):
        if world % value:
            raise ConfigError(f"verl.{key}={value} does not divide the student's {world} GPUs.")
    have = ", ".join(f"{n.name}: {n.gpus} GPUs, {n.cpus} CPUs" for n in nodes) or "no machine"
    fitting = [node for node in nodes if node.gpus >= v.n_gpus_per_node]
    if len(fitting) < v.nnodes:
        raise ConfigError(
            f"verl.nnodes={v.nnodes} machines with verl.n_gpus_per_node={v.n_gpus_per_node} GPUs "
            f"each are needed, and {len(fitting)} are there ({have})."
        )
    cpus = CPUS_A_GPU * v.n_gpus_per_node
    roomy = [node for node in fitting if node.cpus >= cpus]
    if len(roomy) < v.nnodes:
        raise ConfigError(
            f"A rank reserves {CPUS_A_GPU} CPU beside its GPU, and Ray waits for ever without; "
            f"{cpus} are needed on {v.nnodes} machines ({have}). `ray start --num-cpus` may count "
            "higher than there are."
        )
    servers = world // v.tensor_parallel
    spare = sorted({node.gpus - v.n_gpus_per_node for node in roomy[: v.nnodes]})
    left = f"{spare[0]}" if len(spare) == 1 else f"{spare[0]} to {spare[-1]}"
    return (
        f"{world} GPUs: {world // v.sequence_parallel} trainer ranks and {servers} rollout servers "
        f"in turns, on {v.nnodes} of {len(nodes)} machines; {left} GPUs of each are left for "
        "teacher servers"
    )


def sequence_room(config: Config, context: int) -> str:
    """Whether the longest sequence of a step fits into a micro-batch; `context` is its length.
    Raises `ConfigError`, where verl would fail on a rank."""
    tokens = config.student.micro_batch_tokens * config.verl.sequence_parallel
    if tokens < context:
        raise ConfigError(
            f"student.micro_batch_tokens={config.student.micro_batch_tokens} times "
            f"verl.sequence_parallel={config.verl.sequence_parallel} must hold the longest "
            f"sequence, {context} tokens: the longest prompt with its candidates, and a response. "
            "Raise one of them."
        )
    return f"sequences of up to {context} tokens, micro-batches of {tokens}"


def memory_by_rank(config: Config, parameters: int, text: dict[str, Any]) -> RankMemory:
    """The need of one GPU for a model of so many `parameters`; `text` is the text part of its
    config. Activations are an estimate (one input a layer where gradients are checkpointed)."""
    v = config.verl
    world = v.nnodes * v.n_gpus_per_node
    shard = -(-parameters // world)
    weights = shard * (_WEIGHT + _GRADIENT)
    moments = shard * _MOMENTS
    hidden, layers = text.get("hidden_size", 0), text.get("num_hidden_layers", 0)
    tokens = config.student.micro_batch_tokens
    kept = layers + 16 if config.student.gradient_checkpointing else 16 * layers
    activations = tokens * (hidden * kept * 2 + text.get("vocab_size", 0) * _LOGIT)
    return RankMemory(
        resident=_CONTEXT
        + (0 if v.param_offload else shard * _WEIGHT)
        + (0 if v.optimizer_offload else moments),
        training=_CONTEXT + weights + moments + activations,
        server=2 * parameters // v.tensor_parallel,
        kv_token=_cache_bytes(text) // v.tensor_parallel,
    )


def memory(config: Config, need: RankMemory, context: int, gpu: int | None) -> str:
    """Whether `need` fits into a GPU of so many bytes (None: not known). Raises `ModelError`."""
    share = config.verl.gpu_memory_utilization
    said = (
        f"training about {readable(need.training)} a GPU; rollouts {readable(need.resident)} of "
        f"the trainer beside the server's weights of {readable(need.server)}"
    )
    if gpu is None:
        return said + ". No GPU is known here to compare with"
    if need.training > gpu:
        raise ModelError(
            f"Training takes about {readable(need.training)} a GPU, which has {readable(gpu)}. "
            "What helps: student.gradient_checkpointing=true, more GPUs (verl.nnodes), "
            "verl.sequence_parallel with a smaller student.micro_batch_tokens."
        )
    if need.resident + share * gpu > gpu:
        raise ModelError(
            f"The rollout server's verl.gpu_memory_utilization={share:g} of {readable(gpu)} leaves "
            f"{readable(round((1 - share) * gpu))} to the trainer, whose weights and optimiser "
            f"hold {readable(need.resident)}. Lower it, or set verl.optimizer_offload=true."
        )
    cache = share * gpu - need.server
    longest = int(cache // (need.kv_token * context)) if need.kv_token else None
    if cache <= 0 or longest == 0:
        raise ModelError(
            f"The rollout server's verl.gpu_memory_utilization={share:g} of {readable(gpu)} does "
            f"not hold its weights ({readable(need.server)}) and one sequence of {context} tokens. "
            "Raise it or verl.tensor_parallel."
        )
    rollouts = "" if longest is None else f", {longest} rollouts of full length at a time a server"
    return f"{said}; of {readable(gpu)}{rollouts}"


def require_sendable(student: Student, questions: Sequence[Question]) -> None:
    """Raises `ModelError` for media that a rollout server would not read as the trainer does.
    `student` is a `read_only_student`."""
    prompts = [Prompt(q, GroupKind.PLAIN, q.text) for q in questions if q.media]
    cast(Any, student).prompts.requested(prompts, keep=False)


def read_only_student(config: Config) -> Student:
    """The prompts' side of the student: lengths and text, no weights and no workers. Raises
    `ConfigError` for what the engine cannot do, and `ModelError`."""
    from zppo.student.verl.reader import PromptReader

    return cast(Student, PromptReader.from_config(config))


def checkpoint_size(config: Config) -> tuple[int, dict[str, Any]] | None:
    """Parameters of the student and the text part of its config, None before it is on this
    disk."""
    folder = weights_folder(config.student.model)
    parameters = None if folder is None else count_parameters(folder)
    return None if folder is None or parameters is None else (parameters, text_config(folder))


def find_nodes(config: Config) -> tuple[Node, ...]:
    """The machines of the Ray at `verl.ray_address`, or this one. Raises `ConfigError` when that
    Ray does not answer."""
    here = this_machine()
    if config.verl.ray_address is None:
        return (here,)
    import ray  # pyright: ignore[reportMissingImports]

    already = ray.is_initialized()
    try:
        if not already:
            ray.init(address=config.verl.ray_address, log_to_driver=False, logging_level="ERROR")
        return tuple(
            Node(
                node["NodeManagerAddress"],
                int(node["Resources"].get("GPU", 0)),
                int(node["Resources"].get("CPU", 0)),
                here.gpu_memory,
            )
            for node in ray.nodes()
            if node["Alive"]
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"No Ray answers at verl.ray_address={config.verl.ray_address} ({error}). Start it "
            "with `ray start --head` on one machine and `ray start --address=HEAD:6379` on the "
            "others."
        ) from None
    finally:
        if not already:
            ray.shutdown()


def this_machine() -> Node:
    """Its GPUs by nvidia-smi: torch here may be a build for CPUs."""

    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        sizes = [int(line) * 2**20 for line in done.stdout.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        sizes = []
    return Node("this machine", len(sizes), os.cpu_count() or 1, min(sizes, default=None))


def unpadded(config: Config) -> bool:
    """Whether verl packs rows without padding: its default, unless an override says otherwise."""
    key = "actor_rollout_ref.model.use_remove_padding="
    said = [o.lstrip("+").removeprefix(key) for o in config.verl.overrides if key in o]
    return not said or said[-1].strip().lower() == "true"


def _linear_layers(config: Config) -> bool:
    folder = weights_folder(config.student.model)
    return folder is not None and "linear_attention" in _layer_types(text_config(folder))


def _cache_bytes(text: dict[str, Any]) -> int:
    """Keys and values of one token in bf16, of the layers that keep them."""
    layers = _layer_types(text).count("full_attention") or text.get("num_hidden_layers", 0)
    heads = text.get("num_key_value_heads") or text.get("num_attention_heads", 0)
    width = text.get("head_dim") or text.get("hidden_size", 0) // max(
        text.get("num_attention_heads", 1), 1
    )
    return 2 * 2 * layers * heads * width


def _layer_types(text: dict[str, Any]) -> list[str]:
    return list(text.get("layer_types") or ())


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
