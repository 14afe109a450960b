"""From a config to what `cost.py` counts: protocol and parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zppo.config import Config, LocalTeacherConfig, OpenAITeacherConfig, single_teachers
from zppo.errors import ConfigError
from zppo.lab import MODELS, model_path
from zppo.runs.memory import count_parameters

_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([mMbB])(?![A-Za-z0-9])")


def protocol_of(config: Config) -> dict[str, Any]:
    """The fields of `cost.Protocol` that a config sets. Lengths are its caps, as in the paper's
    accounting; give the lengths you measured instead for a figure that is not an upper bound."""
    algorithm = config.algorithm
    return {
        "steps": config.run.steps,
        "prompts_per_step": config.run.prompts_per_step,
        "group_size": algorithm.group_size,
        "teacher_samples": algorithm.teacher_samples,
        "rho_replay": algorithm.rho_replay,
        "rho_aug": algorithm.rho_aug,
        "updates_per_step": config.optimizer.updates_per_step,
        "prompt_tokens": config.data.max_prompt_tokens,
        "response_tokens": config.rollout.max_response_tokens,
        "candidate_tokens": algorithm.candidate_max_tokens,
        "compress": algorithm.compress == "teacher",
    }


def as_it_runs(config: Config, bf16: bool) -> dict[str, Any]:
    """What the embedded engine spares against the paper's accounting: each token is trained on
    once, a prompt is computed once a group, and fp32 needs no second scoring."""
    how = config.student.old_logprobs
    return {
        "update_passes": 1,
        "shared_prompts": config.student.share_prompt,
        "scoring": how == "recompute" or (how == "auto" and bf16),
    }


def student_parameters(config: Config, given: str | None = None) -> float:
    """Parameters of the student: `given`, or counted in its checkpoint, or read off its name.

    Raises `ConfigError` where none of these says.
    """
    found = parse_parameters(given) if given else _of_model(config.student.model)
    if found is None:
        raise ConfigError(
            f"How large `{config.student.model}` is cannot be told before it is downloaded; say "
            "it with --student-params 2B."
        )
    return found


def teacher_parameters(config: Config, given: str | None = None) -> float:
    """Parameters of the (largest) teacher; 0 where none is a model. Raises `ConfigError`."""
    if given:
        return parse_parameters(given)
    sizes = [0.0]
    for model in _teacher_models(config):
        size = _of_model(model)
        if size is None:
            raise ConfigError(
                f"How large the teacher `{model}` is cannot be told from its name; say it with "
                "--teacher-params 27B."
            )
        sizes.append(size)
    return max(sizes)


def _teacher_models(config: Config) -> Iterator[str]:
    for teacher in single_teachers(config.teacher):
        if isinstance(teacher, LocalTeacherConfig):
            yield teacher.model
        elif isinstance(teacher, OpenAITeacherConfig):
            yield from (endpoint.model for endpoint in teacher.endpoints)


def parse_parameters(text: str) -> float:
    """`2B`, `135M`, `0.8e9` as a number. Raises `ConfigError`."""
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in _UNITS else (text, "")
    try:
        value = float(number) * _UNITS.get(unit, 1.0)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e15:
        raise ConfigError(f"`{text}` is no number of parameters; write 2B, 135M or 0.8e9.")
    return value


def _of_model(model: str) -> float | None:
    folder = model_folder(model)
    counted = None if folder is None else count_parameters(folder)
    if counted:
        return float(counted)
    named = _IN_NAME.findall(model)
    return parse_parameters("".join(named[-1])) if named else None


def model_folder(model: str) -> Path | None:
    """Where the weights of a model lie; None where they have yet to be downloaded."""
    if model in MODELS:
        return model_path(MODELS[model])
    return Path(model) if Path(model).is_dir() else None
