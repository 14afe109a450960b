"""The commands that set methods against each other: sweep, compare, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zppo.cli_options import ConfigArgs, load, recipes
from zppo.errors import ConfigError


def add_commands(app: typer.Typer) -> None:
    """Put them into the `zppo` command."""
    app.command(epilog=recipes())(sweep)
    app.command()(compare)
    app.command(epilog=recipes())(cost)


def sweep(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", show_default=False, help="Default: lab.")
    ] = None,
    methods: Annotated[str, typer.Option(help="For instance zppo,grpo+replay.")] = "",
    seeds: Annotated[str, typer.Option(help="For instance 0,1,2.")] = "",
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For all runs; repeatable.")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,VALUE", help="One run a value; repeatable: all pairs."),
    ] = None,
    dir: Annotated[
        Path | None, typer.Option(show_default=False, help="Default: runs/sweep-CONFIG.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
) -> None:
    """Many runs from one config, one process each; the same command goes on where it stopped."""
    from zppo.runs.sweep_command import sweep as run

    code = run(
        config,
        methods=_split(methods),
        seeds=_seeds(seeds),
        settings=set or [],
        grid=grid or [],
        folder=dir,
        jobs=jobs,
        dry_run=dry_run,
    )
    if code:
        raise typer.Exit(code)


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            show_default=False,
            help="Runs, the folder of a sweep, or folders of evaluations on benchmarks.",
        ),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's own figures.")] = False,
    scale: Annotated[
        list[str] | None, typer.Option(help="With --paper: 0.8B, 2B, 4B or 9B; may be repeated.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Differences are to this one (default: grpo+replay).")
    ] = None,
    step: Annotated[int | None, typer.Option(help="An earlier evaluation than the last.")] = None,
    clusters: Annotated[
        Literal["questions", "benchmarks"] | None,
        typer.Option(help="What means are taken over and the bootstrap draws."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also runs that differ in data, steps or model.")
    ] = False,
    format: Annotated[Literal["table", "markdown", "latex", "json"], typer.Option()] = "table",
) -> None:
    """Methods side by side: accuracy, differences with intervals, graduation, cost."""
    from zppo.report.compare_command import compare as show

    show(
        runs or [],
        paper=paper,
        scales=scale or [],
        baseline=baseline,
        step=step,
        unit=clusters,
        anyway=anyway,
        format=format,
    )


def cost(
    config: ConfigArgs = None,
    paper: Annotated[bool, typer.Option("--paper", help="Against the paper's table.")] = False,
    methods: Annotated[str, typer.Option(help="For instance zppo,grpo+replay.")] = "",
    student_params: Annotated[str | None, typer.Option(help="For instance 2B.")] = None,
    teacher_params: Annotated[str | None, typer.Option(help="For instance 27B.")] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="hard_share, response_tokens, ...; repeatable."),
    ] = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="For hours: student_devices, flops, ..."),
    ] = None,
    gpu_memory: Annotated[float | None, typer.Option(min=0.1, help="GB of one GPU.")] = None,
    format: Annotated[Literal["table", "markdown", "latex", "json"], typer.Option()] = "table",
) -> None:
    """FLOPs, hours and memory of a run, before it is started."""
    settings = None if paper else load(config)
    from zppo.report import cost_command

    if settings is None:
        cost_command.paper_cost(format)
        return
    cost_command.cost(
        settings,
        methods=_split(methods),
        student_params=student_params,
        teacher_params=teacher_params,
        assume=assume or [],
        hardware=hardware or [],
        gpu_memory=gpu_memory,
        format=format,
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seeds(text: str) -> list[int]:
    if not all(part.isdigit() for part in _split(text)):
        raise ConfigError(f"--seeds takes whole numbers such as 0,1,2; not `{text}`.")
    return [int(part) for part in _split(text)]
