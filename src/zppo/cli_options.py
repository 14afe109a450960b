"""What several commands share: the config argument and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ConfigArgs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE]...",
        show_default=False,
        help="A YAML file or a recipe (default: lab), then settings such as optimizer.lr=1e-5.",
    ),
]


def recipes() -> str:
    """The shipped recipes with the first comment line of each."""
    lines: list[str] = []
    for file in sorted((Path(__file__).parent / "recipes").glob("*.yaml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        lines.append(f"{file.stem:<14} {first.lstrip('# ')}")
    return "\n\n".join(["Recipes:", *lines])


def load(args: list[str] | None) -> Any:
    from zppo.config import load_config

    args = list(args or [])
    path = args.pop(0) if args and "=" not in args[0] else None
    return load_config(path, args)
