"""`zppo eval` on benchmarks: from what was typed to a model, a judge, a folder and a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from zppo.algorithm.prompts import Templates
from zppo.config import Config, LocalTeacherConfig, OpenAITeacherConfig, parse_config
from zppo.errors import ConfigError, DataError, ZppoError
from zppo.evaluation import results
from zppo.evaluation.benchmark import Benchmark, choose, shipped
from zppo.evaluation.evaluate import Options, Progress, evaluate, require_judges
from zppo.evaluation.exports import EXPORTS
from zppo.evaluation.judging import Judge, JudgePrompts
from zppo.evaluation.loading import load_items
from zppo.evaluation.models import EndpointModel, LocalModel, Model, StudentModel, endpoint_options
from zppo.evaluation.progress import ProgressLine
from zppo.evaluation.scorers import scorer_of
from zppo.runs.build import build_teacher, check_servers
from zppo.runs.checkpoint import find_checkpoint
from zppo.runs.directory import CONFIG, RunDirectory
from zppo.runs.loop import blocking
from zppo.student.base import Student
from zppo.teacher.openai import OpenAITeacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `zppo eval` was asked for. `target` is a run, a local folder or a hub id; with an
    `endpoint` it is the name of the model there."""

    target: str
    suites: Sequence[str] = ()
    names: Sequence[str] = ()
    overrides: Sequence[str] = ()
    checkpoint: str = "latest"
    endpoint: str | None = None
    api_key_env: str | None = None
    concurrency: int = 32
    judge_endpoint: str | None = None
    judge_model: str | None = None
    judge_api_key_env: str | None = None
    judge_prompts: Path | None = None
    output: Path | None = None
    limit: int | None = None
    data_root: Path | None = None
    predict_only: bool = False
    score_only: bool = False
    export: str | None = None


def command(
    request: Request,
    verb: Literal["evaluate", "list", "validate"],
    console: Console | None = None,
) -> bool:
    """What `zppo eval` does, with its output; whether all of it could be done."""
    console = console or Console(highlight=False, emoji=False)
    chosen = choose(request.suites, request.names)
    if verb == "list":
        show_list(chosen or list(shipped().values()), console)
        return True
    if verb == "validate":
        return show_validation(chosen or list(shipped().values()), request, console)
    with ProgressLine(console) as line:
        result, folder = run_benchmarks(request, line.update)
    if not request.predict_only:
        results.show(result, console)
    for key, reason in result["failed"].items():
        console.print(f"{key} was not evaluated: {reason}", markup=False, soft_wrap=True)
    console.print(f"Everything lies in {folder}.", markup=False, soft_wrap=True)
    return not result["failed"]


def run_benchmarks(
    request: Request, progress: Progress = lambda key, phase, done, total: None
) -> tuple[dict[str, Any], Path]:
    """Evaluate as asked; the result and the folder that holds it. Raises a `ZppoError`."""
    if request.predict_only and request.score_only:
        raise ConfigError("--predict-only and --score-only leave nothing to do.")
    if request.export is not None and request.export not in EXPORTS:
        raise ConfigError(f"--export: `{request.export}` is not one of {', '.join(EXPORTS)}.")
    benchmarks = choose(request.suites, request.names)
    config = settings(request)
    prompts = JudgePrompts(Templates.load(config.algorithm.templates), request.judge_prompts)
    scoring = not request.predict_only
    if scoring:
        require_judges(benchmarks, config.judge is not None)
    open_model, name, engine = _model(request, config)
    folder = request.output or Path("evaluations") / re.sub(r"[^\w.-]+", "-", name).strip("-.")
    options = Options(request.limit, request.data_root, not request.score_only, scoring)
    judge = _judge(config, prompts) if scoring else None
    result = blocking(
        evaluate(benchmarks, open_model, name, engine, config, folder, judge, options, progress)
    )
    if request.export is not None:
        EXPORTS[request.export](folder, benchmarks, result)
    return result, folder


async def measure(
    student: Student,
    config: Config,
    folder: Path,
    step: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """`evaluation.benchmarks` on a student in training, by the path of `zppo eval`: what
    `result.json` holds of each. Raises a `ZppoError`; missing data ends the run, it is no 0."""
    e = config.evaluation
    benchmarks = choose((), e.benchmarks)
    prompts = JudgePrompts(Templates.load(config.algorithm.templates))
    root = None if e.data_root is None else Path(e.data_root)
    name = f"{config.student.model}, step {step}"
    try:
        result = await evaluate(
            benchmarks,
            lambda: StudentModel(student, config, name),
            name,
            {"kind": "student"},
            config,
            folder,
            _judge(config, prompts, check=False),
            Options(e.limit, root),
            lambda key, phase, done, total: progress(done, total),
        )
    except DataError as error:
        raise DataError(f"evaluation.benchmarks: {error}") from None
    for reason in result["failed"].values():
        raise DataError(f"evaluation.benchmarks: {reason}")
    return result["benchmarks"]


def settings(request: Request) -> Config:
    """The paper's evaluation settings (method section 9) with the overrides. Of a run, its student,
    judge and templates are taken, not the decoding of its own validation."""
    tree: dict[str, Any] = {"method": "grpo"}
    if request.endpoint is None and _is_run(request.target):
        own = RunDirectory.open(request.target).config([]).model_dump(mode="json")
        tree |= {name: own[name] for name in ("student", "judge", "rewards")}
        tree["algorithm"] = {"templates": own["algorithm"]["templates"]}
    elif request.endpoint is None:
        tree["student"] = {"model": request.target}
    if request.judge_endpoint is not None:
        tree["judge"] = _judge_tree(request)
    elif request.judge_model is not None:
        raise ConfigError("--judge-model names the model behind --judge-endpoint; give both.")
    return parse_config(tree, request.overrides, "zppo eval")


def _judge_tree(request: Request) -> dict[str, Any]:
    if request.judge_model is None:
        raise ConfigError("--judge-endpoint needs --judge-model, the judge's name there.")
    endpoint = {
        "url": request.judge_endpoint,
        "model": request.judge_model,
        "api_key_env": request.judge_api_key_env,
        "concurrency": request.concurrency,
    }
    return {"kind": "openai", "endpoints": [endpoint]}


def _is_run(target: str) -> bool:
    return (Path(target) / CONFIG).is_file()


def _model(request: Request, config: Config) -> tuple[Callable[[], Model], str, dict[str, Any]]:
    """What opens the model, its name, and what it runs on."""
    if request.endpoint is not None:
        try:
            options = endpoint_options(
                request.endpoint, request.target, config, request.api_key_env, request.concurrency
            )
        except ValidationError as error:
            first = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--endpoint: {first}") from None

        def connect() -> Model:
            check_servers(options, config)
            return EndpointModel(OpenAITeacher(options, config.data))

        return connect, request.target, {"kind": "endpoint"}
    s = config.student
    engine = {"kind": "in process", "dtype": s.dtype, "chat_template": s.chat_template}
    if _is_run(request.target) and request.checkpoint != "start":
        path = find_checkpoint(RunDirectory.open(request.target), request.checkpoint)
        return lambda: LocalModel.load(config, path), str(path), engine
    return lambda: LocalModel.load(config), s.model, engine


def _judge(config: Config, prompts: JudgePrompts, check: bool = True) -> Judge | None:
    match config.judge:
        case OpenAITeacherConfig() as options:
            if check:
                check_servers(options, config)
            name = options.endpoints[0].model
        case LocalTeacherConfig() as options:
            name = options.model
        case _:
            return None
    teacher = build_teacher(config.model_copy(update={"teacher": config.judge}))
    assert teacher is not None
    return Judge(teacher, name, prompts, config.rewards.judge_max_tokens)


def show_list(benchmarks: Sequence[Benchmark], console: Console) -> None:
    """The table of `--list`."""
    table = Table("name", "family", box=None)
    table.add_column("questions", justify="right")
    for name in ("scorer", "judge", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("data set", overflow="fold")  # last and whole, to be copied
    for b in benchmarks:
        source = b.sources[0]
        count = "?" if b.count is None else f"{b.count:,}"
        cells = (b.key, b.family, count, b.scorer, scorer_of(b).judge, str(b.version))
        table.add_row(*cells, source.name)
    console.print(table)


def show_validation(benchmarks: Sequence[Benchmark], request: Request, console: Console) -> bool:
    """Whether each benchmark's data can be had and read; True when all can."""
    good = True
    for benchmark in benchmarks:
        found, fine = validate(benchmark, request.data_root, request.limit)
        good &= fine
        mark = "ok " if fine else "NO "
        console.print(f"{mark} {benchmark.key}: {found}", markup=False, soft_wrap=True)
    return good


def validate(benchmark: Benchmark, data_root: Path | None, limit: int | None) -> tuple[str, bool]:
    """What was found of a benchmark's data, and whether it is as declared."""
    try:
        loaded = load_items(benchmark, data_root, limit)
    except ZppoError as error:
        return str(error), False
    notes = [f"{len(loaded.items)} questions from {loaded.where}"]
    fine = not loaded.unusable
    if benchmark.count is not None and limit is None and len(loaded.items) != benchmark.count:
        notes.append(f"the declaration says {benchmark.count}")
        fine = False
    if loaded.unusable:
        notes.append(f"{len(loaded.unusable)} rows unusable; the first: {loaded.unusable[0]}")
    notes += [f"not {line}" for line in loaded.tried]
    return "; ".join(notes), fine
