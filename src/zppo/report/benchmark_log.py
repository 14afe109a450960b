"""A benchmark's predictions and scores as a log, for `zppo show`.

They hold neither prompts nor gold answers: benchmarks have licences, and their rows are elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from zppo.errors import RunError
from zppo.evaluation.files import read_lines
from zppo.report.reading import GroupRow, RolloutRow, StepLog

PREDICTIONS, SCORES = "predictions.jsonl", "scores.jsonl"


def read_benchmark(folder: Path) -> StepLog:
    """Every response in `folder` with its score; 0 and `unscored` where it has none yet. Raises
    `RunError` naming the file that cannot be read."""
    try:
        scores = {(s["id"], s["sample"]): s for s in read_lines(folder / SCORES)}
        answers: dict[str, dict[int, RolloutRow]] = {}
        for row in read_lines(folder / PREDICTIONS):
            score = scores.get((row["id"], row["sample"]), {})
            rollout = RolloutRow(
                text=row["text"] or "",
                reward=score.get("score") or 0.0,
                status=row["error"] or score.get("status", "unscored"),
                extracted=score.get("extracted"),
                tokens=row["tokens"] or 0,
                finished=row["finished"] is not False,
                injected=False,
                advantage=None,
            )
            answers.setdefault(row["id"], {})[row["sample"]] = rollout
    except (KeyError, TypeError) as error:
        raise RunError(f"`{folder}` holds predictions that lack or misuse {error}.") from None
    return StepLog(0, tuple(_group(name, folder.name, some) for name, some in answers.items()))


def _group(question: str, source: str, answers: dict[int, RolloutRow]) -> GroupRow:
    rollouts = tuple(answers[sample] for sample in sorted(answers))
    accuracy = sum(r.correct for r in rollouts) / len(rollouts)
    return GroupRow("plain", question, source, "", "", False, accuracy, 0, (), rollouts)
