"""One evaluation: benchmark by benchmark, responses first, then scores, one result.

FOLDER/
    settings.json               what every response in the folder was made with
    result.json                 all scores, rewritten after each benchmark
    KEY/predictions.jsonl       a line a response, written as they come
    KEY/judge.jsonl             a line a judge's reply
    KEY/scores.jsonl            a line a verdict
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.errors import ConfigError, DataError, RunError, ZppoError
from zppo.evaluation import results
from zppo.evaluation.benchmark import Benchmark
from zppo.evaluation.judging import Judge, JudgePrompts
from zppo.evaluation.loading import describe, load_items
from zppo.evaluation.models import Answer, Ask, Model
from zppo.evaluation.predict import predict, prompts, read_predictions
from zppo.evaluation.score import score
from zppo.evaluation.scorers import scorer_of
from zppo.rewards import RuleGrader, WorkerPool
from zppo.rewards.grader import Grader, close_grader
from zppo.runs.files import write_atomic

PREDICTIONS, JUDGEMENTS, SETTINGS = "predictions.jsonl", "judge.jsonl", "settings.json"

#: (benchmark, phase, done, total)
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What to do beside the settings of the config."""

    limit: int | None = None
    data_root: Path | None = None
    predict: bool = True
    score: bool = True


def require_judges(benchmarks: Sequence[Benchmark], judge: bool) -> None:
    """Raise `ConfigError` for benchmarks that only a judge can score, without one."""
    needy = [b.key for b in benchmarks if scorer_of(b).judge == "required"]
    if needy and not judge:
        raise ConfigError(
            f"{', '.join(needy)}: only a judge can score this. Give --judge-endpoint URL and "
            "--judge-model NAME (or judge.kind=local judge.model=...), or --predict-only to write "
            "the responses now and score them later."
        )


async def evaluate(
    benchmarks: Sequence[Benchmark],
    open_model: Callable[[], Model],
    name: str,
    engine: Mapping[str, Any],
    config: Config,
    folder: Path,
    judge: Judge | None = None,
    options: Options | None = None,
    progress: Progress = lambda key, phase, done, total: None,
) -> dict[str, Any]:
    """Evaluate, or go on with what lies in `folder`; returns what `result.json` then holds.

    The model is opened when the first response is missing; `engine` says before that what it runs
    on, so that no folder mixes responses of two. A benchmark whose data cannot be read
    or scored is recorded under `failed` and the others go on. Raises `ConfigError` where a judge is
    needed, `RunError` when the folder holds responses made with other settings, and the first
    benchmark's error when none could be done.
    """
    options = options or Options()
    if options.score:
        require_judges(benchmarks, judge is not None)
    templates = Templates.load(config.algorithm.templates)
    settings = settings_of(config, templates, name, engine)
    _same_settings(folder, settings)
    before = results.read_result(folder) or {}
    result: dict[str, Any] = {
        "schema": results.SCHEMA,
        "model": before.get("model", {"name": name}),
        "settings": settings,
        "versions": results.versions(),
        "judge": None if judge is None else judge.name,
        "benchmarks": before.get("benchmarks", {}),
        "families": results.families(before.get("benchmarks", {})),
        "failed": {},
    }
    model = _Lazy(open_model)
    grader = _grader(config)
    errors: list[ZppoError] = []
    work = _Work(model, config, templates, folder, grader, judge, options, progress)
    try:
        for benchmark in benchmarks:
            try:
                entry = await work.one(benchmark)
            except (DataError, ConfigError) as error:  # this one's alone: its data, its metric
                result["failed"][benchmark.key] = str(error)
                errors.append(error)
                continue
            result["model"] = model.describe() or result["model"]
            if entry is not None:
                result["benchmarks"][benchmark.key] = entry
                result["families"] = results.families(result["benchmarks"])
                results.write_result(folder, result)
    finally:
        await close_grader(grader)
        if judge is not None:
            await judge.aclose()
        await model.aclose()
    if errors and len(errors) == len(benchmarks):
        raise errors[0]
    results.write_result(folder, result)
    return result


@dataclass(frozen=True, slots=True)
class _Work:
    """What every benchmark of an evaluation shares."""

    model: _Lazy
    config: Config
    templates: Templates
    folder: Path
    grader: Grader
    judge: Judge | None
    options: Options
    progress: Progress

    async def one(self, benchmark: Benchmark) -> dict[str, Any] | None:
        """Ask and score one benchmark; its part of the result, None where nothing is scored."""
        key, file = benchmark.key, self.folder / benchmark.key / PREDICTIONS
        loaded = load_items(benchmark, self.options.data_root, self.options.limit)
        texts = prompts(loaded.items, self.templates)
        samples = self.config.evaluation.samples
        if self.options.predict:
            seed = (self.config.seed, zlib.crc32(key.encode()))
            asked = _bound(self.progress, key, "asked")
            await predict(self.model, loaded.items, texts, samples, file, seed, asked)
        if not self.options.score:
            return None
        scorer, total = scorer_of(benchmark), len(loaded.items) * samples
        judge = self.judge if scorer.judge != "none" else None
        self.progress(key, "scored", 0, total)
        scores = await score(
            loaded.items,
            read_predictions(file, loaded.items, texts),
            samples,
            scorer,
            self.grader,
            judge,
            self.folder / key / JUDGEMENTS,
        )
        self.progress(key, "scored", total, total)
        results.write_scores(self.folder, key, scores)
        entry = results.benchmark_entry(
            benchmark,
            scorer,
            scorer.summarize(scores.scored),
            scores,
            samples,
            describe(loaded),
            _prompt_digests(judge, scorer.name),
            judge.name if judge else None,
        )
        entry["scorer"]["rule"] = self.config.rewards.mode
        entry["judge_max_tokens"] = judge.max_tokens if judge else None
        limit = self.options.limit
        return entry | {"limit": limit if limit and limit < loaded.total else None}


class _Lazy:
    """A model that is opened when it is first asked."""

    def __init__(self, open_model: Callable[[], Model]) -> None:
        self.open, self.name = open_model, ""
        self.model: Model | None = None

    def describe(self) -> dict[str, Any]:
        return {} if self.model is None else self.model.describe()

    def answer(self, asks: Sequence[Ask], seed: Sequence[int]) -> AsyncIterator[list[Answer]]:
        self.model = self.model or self.open()
        return self.model.answer(asks, seed)

    async def aclose(self) -> None:
        if self.model is not None:
            await self.model.aclose()


def settings_of(
    config: Config, templates: Templates, name: str, engine: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides a response beside model and question (method section 9)."""
    e, d = config.evaluation, config.data
    sources = {key: templates.sources[key] for key in ("plain", "closer")}
    return {
        "model": name,
        "engine": dict(engine),
        "seed": config.seed,
        "decoding": {
            "temperature": e.temperature,
            "top_p": e.top_p,
            "top_k": e.top_k,
            "min_p": 0.0,
            "presence_penalty": e.presence_penalty,
            "repetition_penalty": 1.0,
            "max_new_tokens": e.max_response_tokens,
        },
        "media": {
            "min_pixels": d.min_pixels,
            "max_pixels": d.max_pixels,
            "video_fps": d.video_fps,
            "max_frames": d.max_frames,
        },
        "closer": sources["closer"].strip(),
        "templates": hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16],
    }


def _same_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new folder; raise `RunError` where they are others than before."""
    file = folder / SETTINGS
    if not file.is_file():
        if any(folder.glob(f"*/{PREDICTIONS}")):
            raise RunError(f"`{folder}` holds predictions but no {SETTINGS}; use another folder.")
        write_atomic(file, (json.dumps(settings, indent=2) + "\n").encode())
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"`{file}` is damaged: {error}") from None
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        lines = [f"{key}: {before.get(key)} there, {settings[key]} now" for key in other]
        raise RunError(
            f"`{folder}` holds responses made with other settings. Use another folder "
            "(--output), or the settings of before:\n  " + "\n  ".join(lines)
        )


def _grader(config: Config) -> Grader:
    options = config.rewards
    pool = None
    if options.isolate and os.name == "posix":
        pool = WorkerPool(
            options.workers, deadline_s=options.deadline_s, memory_mb=options.memory_mb
        )
    return RuleGrader(options.mode, pool)


def _prompt_digests(judge: Judge | None, scorer: str) -> dict[str, str]:
    """Hashes of the judge templates a scorer may use."""
    if judge is None:
        return {}
    prompts: JudgePrompts = judge.prompts
    own = [name for name in prompts.sources if name.partition("_")[0] == scorer]
    return prompts.digest(own or ["answer"])


def _bound(progress: Progress, key: str, phase: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(key, phase, done, total)
