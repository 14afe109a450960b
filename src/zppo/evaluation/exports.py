"""An evaluation in the form of another harness, so that the two can be compared.

Both take the decoding along; neither knows our prompts or scores. What each needs beyond the files
is in docs/evaluation.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zppo.evaluation.benchmark import Benchmark
from zppo.evaluation.files import read_lines
from zppo.runs.files import write_atomic

PREDICTIONS = "predictions.jsonl"


def lmms_eval(folder: Path, benchmarks: Sequence[Benchmark], result: Mapping[str, Any]) -> Path:
    """`export/lmms-eval/`: a config for its command line, and our responses as sample logs."""
    target = folder / "export" / "lmms-eval"
    tasks = {b.key: _task(b, "lmms_eval") for b in benchmarks}
    decoding = result["settings"]["decoding"]
    config = {
        **_lmms_eval_model(result),
        "tasks": ",".join(task for task in tasks.values() if task),
        "gen_kwargs": ",".join(f"{k}={v}" for k, v in decoding.items()),
        "log_samples": True,
        "output_path": str(target / "theirs"),
        "seed": result["settings"]["seed"],
    }
    _write(target / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    for benchmark in benchmarks:
        lines = _samples(folder, benchmark)
        if lines:
            name = tasks[benchmark.key] or benchmark.key
            _write(target / f"samples_{name}.jsonl", "".join(map(_line, lines)))
    return target


def evalscope(folder: Path, benchmarks: Sequence[Benchmark], result: Mapping[str, Any]) -> Path:
    """`export/evalscope/task.yaml`: a task config with the same benchmarks and decoding."""
    target = folder / "export" / "evalscope"
    decoding = result["settings"]["decoding"]
    names = [task for b in benchmarks if (task := _task(b, "evalscope"))]
    config = {
        "model": result["settings"]["model"],
        "datasets": list(dict.fromkeys(names)),
        "generation_config": {
            "temperature": decoding["temperature"],
            "top_p": decoding["top_p"],
            "top_k": decoding["top_k"],
            "presence_penalty": decoding["presence_penalty"],
            "max_tokens": decoding["max_new_tokens"],
        },
        "seed": result["settings"]["seed"],
        "work_dir": str(target / "theirs"),
    }
    url = result["model"].get("url")
    if url:
        config |= {"api_url": url[0], "eval_type": "openai_api"}
    _write(target / "task.yaml", yaml.safe_dump(config, sort_keys=False))
    return target


EXPORTS: dict[str, Callable[[Path, Sequence[Benchmark], Mapping[str, Any]], Path]] = {
    "lmms-eval": lmms_eval,
    "evalscope": evalscope,
}


def _lmms_eval_model(result: Mapping[str, Any]) -> dict[str, str]:
    name, url = result["settings"]["model"], result["model"].get("url")
    if url:
        return {"model": "openai", "model_args": f"model={name},base_url={url[0]}"}
    return {"model": "huggingface", "model_args": f"pretrained={name}"}


def _task(benchmark: Benchmark, harness: str) -> str:
    """The benchmark's first name there, without remarks; empty where it has none."""
    return (
        benchmark.elsewhere.get(harness, "").partition(",")[0].partition(" ")[0].partition("(")[0]
    )


def _samples(folder: Path, benchmark: Benchmark) -> list[dict[str, Any]]:
    """Responses by question, in the fields of a sample log: doc_id counts our questions."""
    by_id: dict[str, list[str]] = {}
    for line in read_lines(folder / benchmark.key / PREDICTIONS):
        if not line["error"]:
            by_id.setdefault(line["id"], []).append(line["text"])
    return [
        {"doc_id": number, "id": id, "resps": texts, "filtered_resps": texts}
        for number, (id, texts) in enumerate(by_id.items())
    ]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(file: Path, text: str) -> None:
    write_atomic(file, text.encode("utf-8", errors="replace"), sync=False)
