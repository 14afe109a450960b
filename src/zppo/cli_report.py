"""The commands that look at runs: report, show, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RunArgs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")]
FormatOption = Annotated[
    Literal["table", "markdown", "json"], typer.Option(help="table, markdown or json.")
]


def add_commands(app: typer.Typer) -> None:
    """Put them into the `zppo` command."""
    app.command()(report)
    app.command()(show)
    app.command()(audit)


def report(
    runs: RunArgs,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("report.html"),
    mean: Annotated[
        bool, typer.Option("--mean", help="Seeds of a method as one curve with a band.")
    ] = False,
    audit: Annotated[bool, typer.Option(help="Read the rollout logs, too.")] = True,
    svg: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Overlays as SVG files, too.")
    ] = None,
) -> None:
    """Every curve of some runs as one HTML file that needs no network."""
    from zppo.report.report import report as write

    typer.echo(f"Wrote {write(runs, output, mean=mean, audit=audit, svg_folder=svg)}")


def show(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="A run, or a log of one (.jsonl.gz).")
    ],
    step: Annotated[str | None, typer.Option(help="A step, or a range such as 5-9.")] = None,
    kind: Annotated[str | None, typer.Option(help="plain, bcq, ncq, hint or prefix.")] = None,
    reward: Annotated[int | None, typer.Option(min=0, max=1, help="0 or 1.")] = None,
    question: Annotated[str | None, typer.Option(metavar="ID", help="One question.")] = None,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="In all texts.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions (5; in a page 200).")] = None,
    full: Annotated[bool, typer.Option("--full", help="Whole prompts and responses.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
    max_mb: Annotated[float, typer.Option(min=0.1, help="Size of the page.")] = 20.0,
) -> None:
    """Questions, prompts, candidates and rollouts, of the last step unless you say otherwise."""
    from zppo.report.selection import Filter
    from zppo.report.show import parse_steps
    from zppo.report.show import show as browse

    wanted = Filter(parse_steps(step), kind, reward, question, search)
    browse(run, wanted, limit=limit, full=full, html=html, max_mb=max_mb)


def audit(
    runs: RunArgs,
    window: Annotated[int | None, typer.Option(min=1, help="Steps a row over training.")] = None,
    mean: Annotated[bool, typer.Option("--mean", help="Seeds of a method as one.")] = False,
    format: FormatOption = "table",
) -> None:
    """What BCQ and NCQ rollouts do with their candidates, and what is left of it later."""
    from zppo.report.audit_command import audit_runs

    audit_runs(runs, window, format, mean=mean)
