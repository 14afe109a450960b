"""What `zppo cost` prints."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Sequence
from typing import Any

import yaml
from rich.console import Console

from zppo.config import Config
from zppo.errors import ConfigError
from zppo.report.compare_command import Format, show_table
from zppo.report.cost import Hardware, Protocol, run_cost, run_hours
from zppo.report.cost_config import (
    as_it_runs,
    protocol_of,
    student_parameters,
    teacher_parameters,
)
from zppo.report.cost_memory import predict_memory
from zppo.report.cost_tables import (
    GB,
    breakdown_table,
    cost_data,
    hardware_note,
    memory_table,
    methods_table,
    methods_to_show,
    paper_rows,
    paper_table,
)


def paper_cost(format: Format) -> None:
    """Our figures against the paper's table 9."""
    console = _console()
    if format == "json":
        names = ("method", "scale", "flops", "paper_flops", "hours", "paper_hours")
        rows = [dict(zip(names, row, strict=True)) for row in paper_rows()]
        console.print(json.dumps(rows, indent=1), soft_wrap=True, markup=False)
        return
    show_table(paper_table(), format, console)


def cost(
    config: Config,
    *,
    methods: Sequence[str],
    student_params: str | None,
    teacher_params: str | None,
    assume: Sequence[str],
    hardware: Sequence[str],
    gpu_memory: float | None,
    format: Format,
) -> None:
    """Cost and memory of a config. Raises `ConfigError`."""
    student = student_parameters(config, student_params)
    teacher = teacher_parameters(config, teacher_params)
    protocol = protocol_of(config) | _pairs(assume, Protocol, "--assume")
    own = protocol | as_it_runs(config, config.student.dtype != "fp32")
    machine = Hardware(**_pairs(hardware, Hardware, "--hardware")) if hardware else None
    names = methods_to_show(methods, config.method)
    counted = {name: run_cost(name, student, teacher, **protocol) for name in names}
    runs = {name: run_cost(name, student, teacher, **own) for name in names}
    hours = None
    if machine is not None:
        hours = {name: run_hours(c, machine, **protocol) for name, c in counted.items()}
    memory = None if gpu_memory is None else predict_memory(config, student, teacher)
    console = _console()
    if format == "json":
        data = cost_data(counted, runs, hours, memory)
        console.print(json.dumps(data, indent=1), soft_wrap=True, markup=False)
        return
    title = (
        f"Cost of {config.run.steps} steps; student {_size(student)}, teacher {_size(teacher)}"
        + (f"; {hardware_note(machine)}" if machine else "")
    )
    show_table(methods_table(title, counted, runs, hours), format, console)
    last = names[-1]
    show_table(breakdown_table(f"{last}, as it runs here", runs[last]), format, console)
    if memory is not None and gpu_memory is not None:
        show_table(memory_table(memory, gpu_memory * GB), format, console)


def _pairs(texts: Sequence[str], fields: type[Any], option: str) -> dict[str, Any]:
    """`name=number` texts for the fields of a dataclass. Raises `ConfigError`."""
    known = [field.name for field in dataclasses.fields(fields)]
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}."
            raise ConfigError(f"{option} has no `{name}`; {hint}")
        number = _number(value)
        if number is None:
            raise ConfigError(f"{option} `{text}` must look like {name}=NUMBER.")
        values[name] = number
    return values


def _number(text: str) -> float | bool | None:
    if text in ("true", "false"):
        return bool(yaml.safe_load(text))
    try:
        return float(text)
    except ValueError:
        return None


def _size(params: float) -> str:
    if not params:
        return "none"
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if params >= scale:
            return f"{params / scale:.3g}{unit}"
    return f"{params:.0f}"


def _console() -> Console:
    return Console(highlight=False, emoji=False)
