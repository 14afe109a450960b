"""The command line: parses, calls, prints.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from zppo.cli_compare import add_commands
from zppo.cli_options import ConfigArgs
from zppo.cli_options import load as _load
from zppo.cli_options import recipes as _recipes
from zppo.cli_report import add_commands as add_report_commands
from zppo.errors import ZppoError

_INTERRUPTED = 130
_BAD_INPUT = 2


class _Commands(TyperGroup):
    """Turns errors a user can act on into their message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ZppoError as error:
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(_BAD_INPUT) from None
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except Exception as error:
            if not _out_of_memory(error):
                raise
            typer.secho(f"Error: {_MEMORY}\n({error})", fg="red", err=True)
            raise typer.Exit(_BAD_INPUT) from None


_MEMORY = (
    "Out of memory. Lower student.micro_batch_tokens (training) or student.sampler_batch_tokens "
    "(sampling), or turn on student.gradient_checkpointing. A run goes on with `zppo resume`."
)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _command_group(help: str) -> typer.Typer:
    return typer.Typer(
        cls=_Commands,
        help=help,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: rich alone takes a tenth of a second to import
    )


app = _command_group("Train small models with the teacher in the prompt (arXiv:2606.18216).")
data = _command_group("Look at data before training on it.")
lab = _command_group("The lab: tiny models and puzzles that ship with the package.")
app.add_typer(data, name="data")
app.add_typer(lab, name="lab")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", show_default=False, help="Settings to change."),
]
DataArg = Annotated[
    str, typer.Argument(metavar="FILE", help="A data file, a folder, hf:NAME, or lab:SPLIT.")
]
TokensOption = Annotated[bool, typer.Option(help="Count prompt tokens (loads the student).")]
CheckpointOption = Annotated[str, typer.Option(help="latest, best, or a step number.")]


@app.command(epilog=_recipes())
def train(config: ConfigArgs = None) -> None:
    """Train. Without arguments: ZPPO on the lab, a few minutes on a laptop."""
    settings = _load(config)  # before the imports that take seconds
    from zppo.runs.train import train as start

    _exit_unless(start(settings).complete)


@app.command()
def resume(run: Annotated[Path, typer.Argument(metavar="RUN")], changes: Overrides = None) -> None:
    """Go on with a run from its last checkpoint."""
    from zppo.runs.train import resume as go_on

    _exit_unless(go_on(run, changes or []).complete)


@app.command("eval")
def evaluate(
    target: Annotated[str, typer.Argument(metavar="RUN|CONFIG|MODEL")] = "lab",
    changes: Overrides = None,
    checkpoint: Annotated[str, typer.Option(help="latest, best, start, or a step.")] = "latest",
    output: Annotated[
        Path | None,
        typer.Option(help="All responses (.jsonl.gz); with benchmarks, the folder of the results."),
    ] = None,
    suite: Annotated[str | None, typer.Option(help="vlm, llm, video, or several.")] = None,
    benchmarks: Annotated[
        str | None, typer.Option(help="Names (AIME25,AI2D) or .yaml declarations.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions a benchmark.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Benchmarks' rows and media: FOLDER/NAME.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Ask a server instead: URL.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name at the endpoint.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the endpoint's key.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 32,
    judge_endpoint: Annotated[str | None, typer.Option(help="The judge's URL.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Its name there.")] = None,
    judge_api_key_env: Annotated[str | None, typer.Option(help="Its key's variable.")] = None,
    judge_prompts: Annotated[
        Path | None, typer.Option(help="A folder with official judge prompts (NAME.j2).")
    ] = None,
    predict_only: Annotated[bool, typer.Option(help="Responses now, scores later.")] = False,
    score_only: Annotated[bool, typer.Option(help="Score what is there, ask no model.")] = False,
    export: Annotated[str | None, typer.Option(help="lmms-eval or evalscope.")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the benchmarks.")] = False,
    validate: Annotated[bool, typer.Option(help="Look for the data, ask nothing.")] = False,
) -> None:
    """Accuracy on benchmarks, or on the validation questions of a run or config.

    With --suite or --benchmarks, TARGET is a run, a model folder or a hub id, or nothing with
    --endpoint and --model; the settings are the paper's. Without, TARGET is a run or config.
    """
    overrides = changes or []
    if "=" in target:
        target, overrides = "lab", [target, *overrides]
    if suite or benchmarks or show_list or validate:
        from zppo.runs.benchmarks import Request, command

        complete = command(
            Request(
                target=model or target,
                suites=_names(suite),
                names=_names(benchmarks),
                overrides=overrides,
                checkpoint=checkpoint,
                endpoint=endpoint,
                api_key_env=api_key_env,
                concurrency=concurrency,
                judge_endpoint=judge_endpoint,
                judge_model=judge_model,
                judge_api_key_env=judge_api_key_env,
                judge_prompts=judge_prompts,
                output=output,
                limit=limit,
                data_root=data_root,
                predict_only=predict_only,
                score_only=score_only,
                export=export,
            ),
            "list" if show_list else "validate" if validate else "evaluate",
        )
        if not complete:
            raise typer.Exit(1)
        return
    if endpoint or score_only or predict_only or export:
        raise typer.BadParameter("name the benchmarks: --suite or --benchmarks")
    from zppo.runs.evaluation import evaluate as measure
    from zppo.runs.progress import show_evaluation

    show_evaluation(measure(target, overrides, checkpoint=checkpoint, output=output))


@app.command(epilog=_recipes())
def check(config: ConfigArgs = None) -> None:
    """Preflight: models, data, memory, and one prompt of each kind. Nothing is trained."""
    settings = _load(config)
    from zppo.runs.check import check as preflight

    if preflight(settings):
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or one of its checkpoints.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    checkpoint: CheckpointOption = "latest",
) -> None:
    """Write a trained model as a plain Hugging Face folder (LoRA merged)."""
    from zppo.runs.export import export as write

    typer.echo(f"Wrote {write(run, folder, checkpoint)}")


add_report_commands(app)
add_commands(app)


@app.command()
def version() -> None:
    """The versions at work."""
    import platform
    from importlib.metadata import version as of

    typer.echo(f"zppo {of('zppo')}, torch {of('torch')}, transformers {of('transformers')}")
    typer.echo(f"Python {platform.python_version()} on {platform.platform()}")


@data.command()
def inspect(
    file: DataArg,
    config: ConfigArgs = None,
    tokens: TokensOption = False,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Benchmarks to look for, in words and pictures."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Random questions as a page (.html).")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Questions on the page.")] = 24,
) -> None:
    """What a data file holds: usable rows, answers, lengths, sizes, repetitions."""
    settings = _load(config)
    from zppo.runs.inspect import inspect_data

    inspect_data(file, settings, tokens, against or [], page, rows)


@data.command()
def validate(
    file: DataArg,
    config: ConfigArgs = None,
    tokens: TokensOption = False,
    problems: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Every row left out, as .jsonl.")
    ] = None,
) -> None:
    """Would `zppo train` take this file? Exit code 1 if not."""
    settings = _load(config)
    from zppo.runs.inspect import validate_data

    if not validate_data(file, settings, tokens, problems):
        raise typer.Exit(1)


@data.command()
def split(
    file: DataArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    config: ConfigArgs = None,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Held out.")] = 0.05,
) -> None:
    """Hold out questions: FOLDER/train.jsonl and validation.jsonl, no picture or text on both
    sides."""
    settings = _load(config)
    from zppo.runs.split import split_data

    split_data(file, folder, settings, share)


@data.command("build")
def data_build(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="zppo-77k, or a YAML file.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the corpus goes.")],
    config: ConfigArgs = None,
    local: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="SOURCE=FOLDER", help="A local copy of a source."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Build without sub-datasets that are gone.")
    ] = False,
    tokens: TokensOption = False,
) -> None:
    """Build a corpus from its recipe; a killed build goes on where it was."""
    settings = _load(config)
    from zppo.runs.corpus import build_corpus

    build_corpus(recipe, folder, settings, local or [], dry_run, allow_missing, tokens)


@data.command()
def difficulty(
    file: DataArg,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Accuracies, as .jsonl.")],
    config: ConfigArgs = None,
) -> None:
    """The student's own accuracy on each question, for data.difficulty. Goes on where it was."""
    settings = _load(config)
    from zppo.runs.difficulty import measure_difficulty

    measure_difficulty(file, output, settings)


_FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@lab.command("build", context_settings=_FORWARDED)
def lab_build(context: typer.Context) -> None:
    """Train the lab's models from a seed (`zppo lab build --help` for its options)."""
    from zppo.lab.build import main as build

    _forward("zppo lab build", build, context.args)


@lab.command("measure", context_settings=_FORWARDED)
def lab_measure(context: typer.Context) -> None:
    """Measure the lab's student: plain, BCQ and NCQ accuracy."""
    from zppo.lab.measure import main as measure

    _forward("zppo lab measure", measure, context.args)


def _forward(name: str, function: Any, args: list[str]) -> None:
    """Hand the arguments to a module that parses its own."""
    sys.argv = [name, *args]
    function()


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _exit_unless(complete: bool) -> None:
    if not complete:
        raise typer.Exit(_INTERRUPTED)


def main() -> None:
    """The `zppo` command."""
    # Progress bars and advice of libraries would tear our own display apart.
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    try:
        app()
    except SystemExit as end:
        if end.code != _INTERRUPTED:
            raise
        # A model in the middle of a forward pass would keep the process alive; all files are
        # written in whole pieces, so there is nothing to wait for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_INTERRUPTED)
