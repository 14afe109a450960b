"""`zppo data build`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.data.corpus.build import MANIFEST, CorpusBuild
from zppo.data.corpus.plan import make_plan, open_stores
from zppo.data.corpus.recipe import load_recipe
from zppo.errors import ConfigError
from zppo.runs.build import build_student, plain_length


def build_corpus(
    name: str,
    folder: Path,
    config: Config,
    local: Sequence[str] = (),
    dry_run: bool = False,
    allow_missing: bool = False,
    tokens: bool = False,
    console: Console | None = None,
) -> None:
    """Build the corpus of a recipe into `folder`, or say what that would read.

    `local` holds `SOURCE=FOLDER` for sources with a local copy; the others are read from the hub.
    `tokens` drops prompts that are too long for the student of `config`. Raises `ConfigError` and
    `DataError`.
    """
    console = console or Console(highlight=False, emoji=False)
    recipe = load_recipe(name)
    plan = make_plan(recipe, open_stores(recipe, _folders(local)), allow_missing)
    console.print(escape(plan.summary()), soft_wrap=True)
    if dry_run:
        return
    length = None
    if tokens:
        templates = Templates.load(config.algorithm.templates)
        length = plain_length(build_student(config), templates)
    job = CorpusBuild(recipe, plan, folder, length)
    if job.done:
        console.print(f"Going on after {len(job.done)} of {len(plan.work)} files.")

    def progress(file: str, number: int, total: int) -> None:
        kept = sum(map(len, job.selection.subsets.values()))
        console.print(escape(f"{number}/{total}  {file}  ({kept:,} kept)"), soft_wrap=True)

    job.run(progress)
    kept = len(job.selection.items())
    console.print(escape(f"{kept:,} questions; what was dropped, and why: {folder / MANIFEST}"))
    if not tokens:
        console.print(
            "Prompts were not measured (--tokens); `zppo train` leaves out those that are too long."
        )


def _folders(local: Sequence[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for pair in local:
        name, equals, folder = pair.partition("=")
        if not equals or not folder:
            raise ConfigError(f"--from {pair}: write SOURCE=FOLDER.")
        folders[name] = Path(folder)
    return folders
