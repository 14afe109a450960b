"""What an evaluation leaves behind: one JSON a folder, scores by question beside it, and tables."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zppo.errors import RunError
from zppo.evaluation.benchmark import FAMILIES, Benchmark, shipped
from zppo.evaluation.score import Scores
from zppo.evaluation.scorers.base import Scorer, Summary
from zppo.runs.files import naming, write_atomic

RESULT, SCORES = "result.json", "scores.jsonl"
#: The form of `result.json`; goes up when a reader has to know.
SCHEMA = 1


def benchmark_entry(
    benchmark: Benchmark,
    scorer: Scorer,
    summary: Summary,
    scores: Scores,
    samples: int,
    data: Mapping[str, Any],
    prompts: Mapping[str, str],
    judge: str | None,
) -> dict[str, Any]:
    """The part of `result.json` about one benchmark."""
    statuses = Counter(one.verdict.status.value for one in scores.scored)
    whole = not scores.errors and not scores.missing and not data["unusable"]
    return {
        "score": summary.score,
        "stderr": summary.stderr,
        "n": summary.n,
        "samples": samples,
        "parts": dict(summary.parts),
        "complete": whole and summary.score is not None,
        "errors": len(scores.errors),
        "missing": scores.missing,
        "error_rows": [list(row) for row in scores.errors[:20]],
        "statuses": dict(statuses),
        "family": benchmark.family,
        "version": benchmark.version,
        "scorer": {"name": scorer.name, "version": scorer.version, "extractor": "last box"},
        "judge": judge,
        "judged": dict(scores.judged),
        "judge_prompts": dict(prompts),
        "data": dict(data),
        "scores": f"{benchmark.key}/{SCORES}",
    }


def families(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The macro average of every family: the mean over its benchmarks that have a score.

    Only the paper's benchmarks count, not a user's own. The standard error takes benchmarks as
    independent. `of` is how many the family has; with fewer the average is not the paper's.
    """
    found: dict[str, dict[str, Any]] = {}
    papers = {key: e for key, e in entries.items() if key in shipped() and e["score"] is not None}
    for family in FAMILIES:
        some = [e for e in papers.values() if e["family"] == family]
        if not some:
            continue
        errors = [e["stderr"] for e in some]
        known = None not in errors
        found[family] = {
            "score": sum(e["score"] for e in some) / len(some),
            "stderr": sum(e**2 for e in errors) ** 0.5 / len(some) if known else None,
            "benchmarks": len(some),
            "of": sum(b.family == family for b in shipped().values()),
            "complete": all(e["complete"] and not e.get("limit") for e in some),
        }
    return found


def write_scores(folder: Path, key: str, scores: Scores) -> None:
    """`KEY/scores.jsonl`: a line a response, in the order of the questions; errors have none."""
    lines = [
        {
            "id": one.item.id,
            "cluster": one.item.cluster,
            "sample": one.sample,
            "score": one.verdict.score,
            "status": one.verdict.status.value,
            "extracted": one.verdict.extracted,
            "by": one.verdict.by,
        }
        for one in scores.scored
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomic(folder / key / SCORES, text.encode("utf-8", errors="replace"), sync=False)


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Replace `result.json`."""
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / RESULT, text.encode("utf-8", errors="replace"))


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `write_result` wrote, None where there is none. Raises `RunError` when it is damaged."""
    file = folder / RESULT
    if not file.is_file():
        return None
    with naming(file, "read"):
        text = file.read_text(encoding="utf-8")
    try:
        result = json.loads(text)
    except ValueError as error:
        raise RunError(f"`{file}` is damaged: {error}") from None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise RunError(f"`{file}` is not a result of this version (schema {SCHEMA}).")
    return result


def versions() -> dict[str, str]:
    """The packages that a score may depend on."""
    found = {"python": platform.python_version()}
    for name in ("zppo", "torch", "transformers", "datasets", "pillow", "av", "lmms-eval"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def show(result: Mapping[str, Any], console: Console | None = None) -> None:
    """The table of an evaluation, and everything about it that a reader of the table must know."""
    console = console or Console(highlight=False, emoji=False)
    table = Table(title=f"{result['model']['name']}", title_justify="left")
    table.add_column("benchmark")
    for name in ("questions", "samples", "score", "± se", "errors"):
        table.add_column(name, justify="right")
    table.add_column("judge")
    for key, entry in result["benchmarks"].items():
        lost = entry["errors"] + entry["missing"]
        table.add_row(
            key,
            str(entry["n"]),
            str(entry["samples"]),
            percent(entry["score"]),
            percent(entry["stderr"]),
            str(lost or ""),
            entry["judge"] or "none",
        )
    for name, entry in result["families"].items():
        label = f"{name} ({entry['benchmarks']} of {entry['of']})"
        table.add_row(
            label, "", "", percent(entry["score"]), percent(entry["stderr"]), style="bold"
        )
    console.print(table)
    for note in notes(result):
        console.print(f"- {note}", soft_wrap=True, markup=False)


def notes(result: Mapping[str, Any]) -> list[str]:
    """What keeps a score from being the benchmark's."""
    lines: list[str] = []
    for key, entry in result["benchmarks"].items():
        data, judged = entry["data"], entry["judged"]
        if entry["errors"]:
            first = entry["error_rows"][0]
            lines.append(
                f"{key}: {entry['errors']} responses have no verdict and are not in the score; "
                f"the first: {first[0]}: {first[2]}"
            )
        if entry["missing"]:
            lines.append(f"{key}: {entry['missing']} responses were not asked for yet")
        if data["unusable"]:
            lines.append(
                f"{key}: {data['unusable']} rows could not be used; the first: "
                f"{data['unusable_rows'][0]}"
            )
        if judged.get("judge_malformed"):
            lines.append(
                f"{key}: {judged['judge_malformed']} of {judged['asked']} judge replies were "
                "malformed and count as wrong"
            )
        if entry["judge"] is None and entry["scorer"]["name"] not in ("anls", "ocrbench"):
            lines.append(f"{key}: by the rule alone; the paper's protocol asks a judge as well")
        if entry["stderr"] == 0 and entry["n"] > 1:
            lines.append(
                f"{key}: every question has the same score, so the standard error of 0 says "
                f"nothing; the true score may be {min(1, 3 / entry['n']):.1%} off"
            )
        if problems := entry["parts"].get("incomplete_problems"):
            lines.append(
                f"{key}: {problems:.0f} problems lack a verdict on one of their steps and are "
                "not in the score"
            )
        if questions := entry["parts"].get("incomplete_questions"):
            lines.append(
                f"{key}: {questions:.0f} questions lack a verdict on one of their variants and are "
                "not in the worst case"
            )
        if entry["score"] is None:
            lines.append(
                f"{key}: no score, and none in the average: too little of it has a verdict"
            )
        if entry.get("limit"):
            lines.append(f"{key}: a sample of {entry['n']} questions")
    return lines


def percent(value: float | None) -> str:
    """A score as shown: one decimal of a percent."""
    return "-" if value is None else f"{100 * value:.1f}"
