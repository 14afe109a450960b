"""From our config tree to verl's."""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import Any, Literal

from zppo.config import Config
from zppo.errors import ConfigError
from zppo.student.loading import resolve_path

#: Words of a BCQ or NCQ prompt around its question and candidates.
_TEMPLATE_TOKENS = 1_024


def verl_config(config: Config, context: int) -> Any:
    """verl's resolved config (an OmegaConf `DictConfig`) for a run of ours; `context` is the most
    tokens that a rollout server must take in a sequence (`rollout_context`).

    `verl.overrides` comes last and so wins. Raises `ConfigError` when one of them names no key of
    verl's.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ours = [f"{key}={_literal(value)}" for key, value in _settings(config, context).items()]
    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            tree = compose("ppo_trainer", [*ours, *config.verl.overrides])
        OmegaConf.resolve(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"verl.overrides: {error}") from None
    return tree


def rollout_context(config: Config, context: int) -> int:
    """Tokens that a rollout server keeps room for in a sequence, within the model's `context`:
    the longest prompt that a step can make, and its response."""
    a = config.algorithm
    response = max(config.rollout.max_response_tokens, config.evaluation.max_response_tokens)
    candidates = a.group_size * a.candidate_max_tokens
    return min(context, config.data.max_prompt_tokens + candidates + _TEMPLATE_TOKENS + response)


def compute_dtype(config: Config) -> Literal["float32", "bfloat16"]:
    """What trainer and servers compute in; the trainer's weights are fp32 either way."""
    return "float32" if config.student.dtype == "fp32" else "bfloat16"


def _settings(config: Config, context: int) -> dict[str, Any]:
    """Key of verl's tree -> value. Batch sizes are not here: every call brings its own rows."""
    s, v, o = config.student, config.verl, config.optimizer
    computes_in = compute_dtype(config)
    path, _ = resolve_path(s.model)
    settings: dict[str, Any] = {
        "trainer.nnodes": v.nnodes,
        "trainer.n_gpus_per_node": v.n_gpus_per_node,
        "data.max_prompt_length": config.data.max_prompt_tokens,
        "data.max_response_length": config.rollout.max_response_tokens,
        "actor_rollout_ref.model.path": path,
        "actor_rollout_ref.model.trust_remote_code": s.trust_remote_code,
        "actor_rollout_ref.model.enable_gradient_checkpointing": s.gradient_checkpointing,
    }
    actor = {
        "strategy": "fsdp2",
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": s.micro_batch_tokens,
        "ulysses_sequence_parallel_size": v.sequence_parallel,
        "freeze_vision_tower": s.freeze_vision,
        "loss_agg_mode": "token-mean",
        "clip_ratio": o.clip_low,
        "clip_ratio_low": o.clip_low,
        "clip_ratio_high": o.clip_high,
        "clip_ratio_c": o.dual_clip,
        "entropy_coeff": 0,
        "use_kl_loss": False,
        "checkpoint.save_contents": ["model", "optimizer", "extra"],
        "checkpoint.load_contents": ["model", "optimizer", "extra"],
        "optim.lr": o.lr,
        "optim.betas": list(o.betas),
        "optim.weight_decay": o.weight_decay,
        "optim.clip_grad": o.max_grad_norm,
        "optim.lr_scheduler_type": "constant",
        "optim.override_optimizer_config": {"eps": o.eps},
        "fsdp_config.strategy": "fsdp2",
        "fsdp_config.model_dtype": "fp32",
        "fsdp_config.dtype": computes_in,
        "+fsdp_config.mixed_precision": {
            "param_dtype": {"float32": "fp32", "bfloat16": "bf16"}[computes_in],
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
        "fsdp_config.param_offload": v.param_offload,
        "fsdp_config.optimizer_offload": v.optimizer_offload,
        "fsdp_config.ulysses_sequence_parallel_size": v.sequence_parallel,
        "fsdp_config.seed": config.seed,
    }
    rollout = {
        "name": v.rollout,
        "mode": "async",
        "dtype": computes_in,
        "temperature": config.rollout.temperature,
        "top_p": config.rollout.top_p,
        "top_k": config.rollout.top_k or -1,
        "max_model_len": context,
        "tensor_model_parallel_size": v.tensor_parallel,
        "gpu_memory_utilization": v.gpu_memory_utilization,
        "calculate_log_probs": True,
        "seed": config.seed,
        "free_cache_engine": True,
    }
    for name, part in (("actor", actor), ("rollout", rollout)):
        for key, value in part.items():
            plus, bare = ("+", key[1:]) if key.startswith("+") else ("", key)
            settings[f"{plus}actor_rollout_ref.{name}.{bare}"] = value
    return settings


def _literal(value: Any) -> str:
    """`value` in the grammar of Hydra's overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_literal(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
