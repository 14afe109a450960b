"""What a run costs: FLOPs by method, model sizes and protocol, and hours on given hardware.

The accounting is the paper's: 2N FLOPs a token forward, 6N a token forward and backward, every
sequence as long as the caps allow. `Protocol` holds what it is counted over, with the paper's
values; docs/compare.md says which of them the paper states and which were fitted to its table.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from zppo.algorithm.methods import METHODS, Method
from zppo.config import MethodName
from zppo.errors import ConfigError

FORWARD, TRAIN = 2, 6


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is counted. Tokens are a sequence's; shares are in [0, 1].

    update_passes             times a token is trained on in a step; None: `updates_per_step`, as
                              the paper counts, although each of the I mini-batches holds other
                              tokens; 1 is what runs. Distillation takes one update a step.
    scoring                   whether the student scores its training tokens once more before the
                              update (old log-probs), at 2N.
    shared_prompts            whether a prompt is computed once for its group, not once a rollout.
    compress                  whether the teacher shortens the candidates.
    hard_share                new questions below tau, those the teacher is asked. Not in the paper.
    hard_share_replayed       replayed questions below tau. Not in the paper.
    teacher_correct           correct teacher responses, over all new questions. Fitted.
    teacher_correct_replayed  the same over replayed questions. Fitted.
    """

    steps: int = 200
    prompts_per_step: int = 384
    group_size: int = 8
    teacher_samples: int = 4
    rho_replay: float = 0.25
    rho_aug: float = 0.25
    updates_per_step: int = 4
    prompt_tokens: float = 4_096
    response_tokens: float = 12_288
    candidate_tokens: float = 512
    update_passes: float | None = None
    scoring: bool = True
    shared_prompts: bool = False
    compress: bool = True
    hard_share: float = 0.25
    hard_share_replayed: float = 0.75
    teacher_correct: float = 0.6
    teacher_correct_replayed: float = 0.1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if value < 0:
                raise ConfigError(f"`{field.name}` must not be negative, it is {value}.")
            share = field.name.startswith(("hard_share", "teacher_correct"))
            if share and value > 1:
                raise ConfigError(f"`{field.name}` is a share between 0 and 1, not {value}.")


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs of a run, and what they go into: names starting with `student` or `teacher`."""

    flops: float
    breakdown: Mapping[str, float]

    def of(self, model: str) -> float:
        """FLOPs of the `student` or the `teacher`."""
        return sum(v for name, v in self.breakdown.items() if name.startswith(model))


def run_cost(
    method: str, student_params: float, teacher_params: float = 27e9, **protocol: Any
) -> Cost:
    """FLOPs of a whole run of `method`. `protocol` takes the fields of `Protocol`.

    Raises `ConfigError` for a method or a field that does not exist, or a value out of range.
    """
    chosen = _method(method)
    tokens = tokens_of(chosen, _protocol(protocol))
    breakdown = {
        name: count * (student_params if name.startswith("student") else teacher_params)
        for name, count in tokens.items()
    }
    return Cost(sum(breakdown.values()), {name: v for name, v in breakdown.items() if v})


def tokens_of(method: Method, p: Protocol) -> dict[str, float]:
    """FLOPs a parameter by purpose: tokens times 2 or 6."""
    new = p.steps * p.prompts_per_step
    replayed = new * p.rho_replay if method.replay else 0.0
    augmented = new * p.rho_aug if method.reformulates else 0.0
    plain = (new + replayed) * _group(p, p.prompt_tokens)
    blocks = _candidates(method, p) * p.candidate_tokens
    zone = augmented * _group(p, p.prompt_tokens + blocks)
    rollouts = {
        "student rollouts": FORWARD * plain,
        "student zone rollouts": FORWARD * zone,
    }
    if method.distill is not None:
        return rollouts | _distillation(method, p, new, replayed, plain)
    scored = FORWARD * (plain + zone) if p.scoring else 0.0
    passes = p.updates_per_step if p.update_passes is None else p.update_passes
    return rollouts | {
        "student scoring": scored,
        "student update": TRAIN * passes * (plain + zone),
        "teacher answers": FORWARD * _answered(method, p, new, replayed),
        "teacher compression or hints": FORWARD * _texts(method, p, augmented),
    }


def _group(p: Protocol, prompt: float) -> float:
    """Tokens of a prompt's G rollouts."""
    return (1 if p.shared_prompts else p.group_size) * prompt + p.group_size * p.response_tokens


def _distillation(
    method: Method, p: Protocol, new: float, replayed: float, plain: float
) -> dict[str, float]:
    """Trained once on what the teacher also scores: its own correct responses (off), or the
    student's (on)."""
    answers = (new + replayed) * p.teacher_samples * (p.prompt_tokens + p.response_tokens)
    if method.distill == "off":
        share = new * p.teacher_correct + replayed * p.teacher_correct_replayed
        trained = answers * share / (new + replayed)
    else:
        trained, answers = plain, 0.0
    return {
        "student scoring": FORWARD * trained if p.scoring else 0.0,
        "student update": TRAIN * trained,
        "teacher answers": FORWARD * answers,
        "teacher scoring": FORWARD * trained,
    }


def _answered(method: Method, p: Protocol, new: float, replayed: float) -> float:
    """Tokens of the teacher's responses to hard questions."""
    if not method.needs_teacher_samples:
        return 0.0
    hard = new * p.hard_share + replayed * p.hard_share_replayed
    return hard * p.teacher_samples * (p.prompt_tokens + p.response_tokens)


def _candidates(method: Method, p: Protocol) -> float:
    """Candidate blocks an average reformulated prompt holds: two in a BCQ; in an NCQ one a wrong
    rollout, all G of them on the hardest questions, which are the ones kept."""
    blocks = [2.0] * method.bcq + [float(p.group_size)] * method.ncq + [1.0] * method.hint
    return sum(blocks) / len(blocks) if blocks else 0.0


def _texts(method: Method, p: Protocol, augmented: float) -> float:
    """Tokens of compressing each candidate (or writing a hint): a response in, a summary out."""
    if not (p.compress or method.hint):
        return 0.0
    return augmented * _candidates(method, p) * (p.response_tokens + p.candidate_tokens)


# --- hours ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where it runs. The defaults are the paper's 64 H100s, with what fits its GRPO column.

    flops           a device's peak FLOP/s in the type used (H100, bf16, dense: 989e12).
    utilisation     share of the peak that is reached, in the paper's accounting: what the update
                    really computes is a quarter of what is counted for it.
    token_seconds   wall clock a token of the longest response takes: sampling is sequential, and
                    with few, long responses it is this and not FLOPs that a step waits for.
    """

    student_devices: int = 48
    teacher_devices: int = 16
    flops: float = 989e12
    utilisation: float = 0.485
    token_seconds: float = 0.087


def run_hours(cost: Cost, hardware: Hardware | None = None, **protocol: Any) -> float:
    """Hours of a run: the sequential part of sampling, then student and teacher one after the
    other, which is how a step uses them but for the teacher's answers to the first hard questions.

    Raises `ConfigError` as `run_cost` does.
    """
    h, p = hardware or Hardware(), _protocol(protocol)
    rate = h.flops * h.utilisation
    sequential = p.steps * p.response_tokens * h.token_seconds
    # Without devices of its own the teacher shares the student's.
    teacher = cost.of("teacher") / (rate * (h.teacher_devices or h.student_devices))
    return (sequential + cost.of("student") / (rate * h.student_devices) + teacher) / 3600


def _method(name: str) -> Method:
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ConfigError(f"There is no method `{name}`{hint}")
    return METHODS[cast(MethodName, name)]


def _protocol(values: Mapping[str, Any]) -> Protocol:
    known = [field.name for field in dataclasses.fields(Protocol)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}."
            raise ConfigError(f"A protocol has no `{name}`; {hint}")
    return Protocol(**values)
