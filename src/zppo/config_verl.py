"""The cluster engine's part of the configuration tree: how a run is laid out on verl's workers.

What our own tree already says (model, sampling, optimiser, batches) is mapped to verl's, not
repeated here; `overrides` reaches everything else that verl can be told.
"""

from __future__ import annotations

from pydantic import Field

from zppo.config_teacher import Section


class VerlConfig(Section):
    """Read with `student.engine=verl` only."""

    nnodes: int = Field(default=1, ge=1, description="machines whose GPUs the student takes")
    n_gpus_per_node: int = Field(
        default=8, ge=1, description="of each machine; leave some out for teacher servers beside it"
    )
    rollout: str = Field(
        default="vllm", description="who samples: vllm, sglang, or a name registered with verl"
    )
    tensor_parallel: int = Field(default=1, ge=1, description="GPUs that one rollout server spans")
    gpu_memory_utilization: float = Field(
        default=0.5, gt=0.0, lt=1.0, description="share of a GPU's memory for the rollout server"
    )
    sequence_parallel: int = Field(
        default=1, ge=1, description="GPUs that share one sequence in the update (Ulysses)"
    )
    param_offload: bool = Field(
        default=False, description="the trainer's weights wait in host memory while others compute"
    )
    optimizer_offload: bool = Field(
        default=False, description="likewise the optimiser's state and fp32 masters"
    )
    ray_address: str | None = Field(
        default=None, description="`auto` or host:port of a running Ray; None: start one here"
    )
    requests_in_flight: int = Field(
        default=1_024,
        ge=1,
        description="rollouts asked for at a time, so that memory stays bounded",
    )
    request_timeout: float = Field(
        default=1_800.0, gt=0.0, description="seconds one rollout may take before it has failed"
    )
    worker_timeout: float = Field(
        default=3_600.0,
        gt=0.0,
        description="seconds a call to the workers may take before the run stops",
    )
    max_failed_rollout_share: float = Field(
        default=0.1, ge=0.0, le=1.0, description="stop when a larger share of a request fails"
    )
    fingerprint_every: int = Field(
        default=1, ge=0, description="steps between checks of the rollout weights; 0: never"
    )
    fingerprint_tolerance: float = Field(
        default=0.1, gt=0.0, description="nats a token that rollout and trainer may be apart"
    )
    overrides: list[str] = Field(
        default=[], description="key.sub=value of verl's own config, applied last (Hydra's syntax)"
    )
