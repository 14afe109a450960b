"""Costs as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zppo.report import paper
from zppo.report.compare_tables import MISSING
from zppo.report.cost import Cost, Hardware, run_cost, run_hours
from zppo.report.cost_memory import Memory
from zppo.report.tables import Table

GB = 1e9


def paper_rows() -> list[tuple[str, str, float, float, float, float]]:
    """(method, scale, FLOPs here, FLOPs printed, hours here, hours printed) of the cost table."""
    rows: list[tuple[str, str, float, float, float, float]] = []
    methods = dict.fromkeys(m for s in paper.SCALES for m in paper.figures()["cost"][s])
    for method in methods:
        for scale in paper.SCALES:
            hours, flops = paper.figures()["cost"][scale][method]
            cost = run_cost(method, paper.PARAMETERS[scale], paper.TEACHER_PARAMETERS)
            rows.append((method, scale, cost.flops, flops, run_hours(cost), hours))
    return rows


def paper_table() -> Table:
    """Ours against the paper's table 9."""
    return Table(
        "Cost against the paper's table 9",
        ("method", "student", "FLOPs", "paper", "differs", "hours", "paper", "differs"),
        tuple(
            (
                *(method, scale),
                *(f"{flops:.3g}", f"{printed:.2g}", f"{flops / printed - 1:+.1%}"),
                *(f"{hours:.0f}", f"{clock:.0f}", f"{hours / clock - 1:+.1%}"),
            )
            for method, scale, flops, printed, hours, clock in paper_rows()
        ),
        "The paper prints two digits, so up to 4.5% of a difference can be rounding. GRPO follows "
        "from the protocol alone. Not in the paper, and fitted to this table: the share of hard "
        "questions (25% of new, 75% of replayed ones; the teacher's part of zppo) and of correct "
        "teacher responses (60%, 10% on replayed ones; off_distill). Hours: two numbers fitted to "
        "the grpo rows (48.5% of peak, 87 ms a sequential token); they miss off_distill by 11 to "
        "23%, where nothing is known about how the teacher's sampling was scheduled.",
        labels=2,
    )


def methods_table(
    title: str,
    counted: Mapping[str, Cost],
    runs: Mapping[str, Cost],
    hours: Mapping[str, float] | None,
) -> Table:
    """Costs by method: in the paper's accounting, and as the embedded engine runs it."""
    return Table(
        title,
        (
            *("method", "student", "teacher", "all FLOPs", "as it runs here"),
            *(["hours"] if hours is not None else []),
        ),
        tuple(
            (
                *(name, _flops(cost.of("student")), _flops(cost.of("teacher"))),
                *(_flops(cost.flops), _flops(runs[name].flops)),
                *([f"{hours[name]:,.1f}"] if hours is not None else []),
            )
            for name, cost in counted.items()
        ),
        "FLOPs of a whole run, every sequence as long as its caps. `all FLOPs` counts as the paper "
        "does: all tokens in each of the I updates, the prompt once a rollout, old log-probs once "
        "more. `as it runs here`: each token trained on once, the prompt once a group.",
    )


def breakdown_table(name: str, cost: Cost) -> Table:
    """What the FLOPs of a method go into."""
    return Table(
        f"FLOPs of {name}",
        ("part", "FLOPs", "share"),
        tuple(
            (part, _flops(value), f"{value / cost.flops:.1%}")
            for part, value in cost.breakdown.items()
        ),
    )


def memory_table(memory: Memory, available: float) -> Table:
    """Memory by purpose, against a GPU of `available` bytes."""
    parts = {
        "weights": memory.weights,
        "gradients and optimiser": memory.training,
        "local teacher": memory.teacher,
        "activations (update)": memory.activations,
        "key/value cache (sampling)": memory.cache,
        "peak": memory.peak,
    }
    note = (
        f"Peak: {memory.verdict(available)} in {available / GB:.0f} GB. Sampling and updating take "
        "turns. Measured peaks were up to 25% above such estimates; `fits` leaves that room."
    )
    if memory.guessed:
        note += " The checkpoint is not on this disk: its shape is a guess from its size."
    return Table(
        "Memory of one GPU",
        ("part", "GB"),
        tuple((name, f"{size / GB:,.1f}") for name, size in parts.items()),
        note,
    )


def cost_data(
    counted: Mapping[str, Cost],
    runs: Mapping[str, Cost],
    hours: Mapping[str, float] | None,
    memory: Memory | None,
) -> dict[str, Any]:
    """The same, unrounded, for other programs. Memory in bytes."""
    found: dict[str, Any] = {
        name: {
            "flops": cost.flops,
            "breakdown": dict(cost.breakdown),
            "flops_as_it_runs": runs[name].flops,
            "hours": None if hours is None else hours[name],
        }
        for name, cost in counted.items()
    }
    if memory is None:
        return {"methods": found}
    names = ("weights", "training", "teacher", "activations", "cache", "peak", "guessed")
    return {"methods": found, "memory": {name: getattr(memory, name) for name in names}}


def hardware_note(hardware: Hardware) -> str:
    """What hours were computed for."""
    return (
        f"{hardware.student_devices:g} + {hardware.teacher_devices:g} devices of "
        f"{hardware.flops:.3g} FLOP/s at {hardware.utilisation:.1%}, "
        f"{1000 * hardware.token_seconds:.0f} ms a sequential token"
    )


def methods_to_show(chosen: Sequence[str], own: str) -> list[str]:
    """The methods asked for, or the config's own beside the baseline."""
    return list(chosen) or list(dict.fromkeys(["grpo", "grpo+replay", own]))


def _flops(value: float) -> str:
    return f"{value:.3g}" if value else MISSING
