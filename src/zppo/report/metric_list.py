"""The metrics that a report shows, and in which words (docs/training.md has all of them)."""

from __future__ import annotations

from dataclasses import dataclass

from zppo.report.charts import Unit


@dataclass(frozen=True, slots=True)
class Metric:
    """A curve that `metrics.jsonl` holds."""

    key: str
    title: str
    unit: Unit
    note: str
    smooth: bool = True


_SHARE: Unit = "share"

ACCURACY = (
    Metric("accuracy/plain", "Plain accuracy", _SHARE, "All plain rollouts, replayed ones too."),
    Metric(
        "accuracy/plain_new",
        "Plain accuracy, new questions",
        _SHARE,
        "Seen for the first time in this pass.",
    ),
    Metric(
        "accuracy/plain_replayed",
        "Plain accuracy, replayed questions",
        _SHARE,
        "From the buffer, so hard ones.",
    ),
    Metric(
        "accuracy/bcq", "BCQ accuracy", _SHARE, "Rollouts shown one right and one wrong candidate."
    ),
    Metric("accuracy/ncq", "NCQ accuracy", _SHARE, "Rollouts shown wrong candidates only."),
    Metric("accuracy/hint", "Hint accuracy", _SHARE, "Rollouts shown the teacher's hint."),
    Metric(
        "accuracy/prefix",
        "Prefix accuracy",
        _SHARE,
        "Rollouts that go on from a teacher's beginning.",
    ),
)
LEARNING = (
    Metric(
        "groups/trivial_share",
        "Groups without a gradient",
        _SHARE,
        "All right or all wrong, of all groups.",
    ),
    Metric(
        "rollouts/positive_advantage_share",
        "Positive advantages",
        _SHARE,
        "Of all rollouts of the step.",
    ),
    Metric(
        "policy/entropy",
        "Policy entropy",
        "number",
        "Nats a token: mean of -log p over the tokens that plain rollouts sampled.",
    ),
    Metric(
        "update/loss",
        "Loss",
        "number",
        "Near 0 by nature; in distillation the divergence, nats a token.",
    ),
    Metric("update/grad_norm", "Gradient norm", "number", "Before clipping."),
    Metric(
        "update/kl_from_rollout",
        "Distance moved in a step",
        "number",
        "Nats a token, from the policy that sampled.",
    ),
    Metric("tokens/response_mean", "Response length", "count", "Tokens, mean over the step."),
    Metric("rollouts/unfinished_share", "Unfinished responses", _SHARE, "Cut by the token limit."),
)
BUFFER = (
    Metric("buffer/size", "Questions in the buffer", "count", "After the step.", smooth=False),
)
CUMULATIVE = (
    Metric("buffer/admitted", "Admitted", "count", "Questions so far, from the start."),
    Metric("buffer/graduated", "Graduated", "count", "Left because the student now solves them."),
    Metric("buffer/evicted", "Evicted", "count", "Left because the buffer was full."),
)
TEACHER = (
    Metric("zone/hard", "Hard questions", "count", "Plain accuracy below the threshold."),
    Metric(
        "teacher/solved_share",
        "Solved by the teacher",
        _SHARE,
        "Of the questions it was asked.",
    ),
    Metric("teacher/accuracy", "Teacher accuracy", _SHARE, "Of its responses."),
    Metric("teacher/failed_share", "Teacher failures", _SHARE, "Calls that gave nothing."),
    Metric(
        "zone/compress_refused_share",
        "Compressions refused",
        _SHARE,
        "Of the traces that candidates need.",
    ),
    Metric("ncq/gate_open", "NCQ gate", _SHARE, "Open where the next step builds NCQ prompts."),
    Metric("zone/skipped", "Prompts not built", "count", "Reformulations that were skipped."),
)
COST = (
    Metric("time/total", "Time of a step", "seconds", "Wall clock."),
    Metric("time/tokens_per_second", "Tokens a second", "count", "Sampled tokens by wall clock."),
    Metric(
        "tokens/sampled", "Tokens sampled in a step", "count", "Response tokens of all rollouts."
    ),
)
CUMULATIVE_COST = (
    Metric("tokens/sampled", "Tokens sampled so far", "count", "From the start."),
    Metric("time/total", "Time so far", "seconds", "Training steps, without evaluations."),
)
