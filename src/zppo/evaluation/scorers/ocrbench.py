"""OCRBench v2 (arXiv:2501.00321), scored by lmms-eval's copy of the official metrics.

Thirty types of task with metrics of their own (TEDS, IoU, spotting F1, BLEU, METEOR, ...) are not
written again here: a second version of them would only be wrong in another way.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zppo.errors import ConfigError
from zppo.evaluation.benchmark import Item
from zppo.evaluation.scorers.base import (
    JudgeTask,
    Scored,
    Summary,
    Verdict,
    after_thinking,
    summarize_mean,
)
from zppo.rewards.grader import Grade
from zppo.types import RolloutStatus

_log = logging.getLogger(__name__)

MODULE = "lmms_eval.tasks.ocrbench_v2.utils"
_FIELDS = ("answers", "type", "eval", "dataset_name", "bbox", "bbox_list", "content")


@dataclass(frozen=True, slots=True)
class OcrBench:
    """Delegates every response; the mean over rows, by type in the parts."""

    breakdown: str | None = "type"
    name: str = "ocrbench"
    version: int = 1
    judge: Literal["none", "fallback", "required"] = "none"

    def rule(self, item: Item, response: str, grade: Grade) -> Verdict:
        """See `Scorer.rule`. A metric that fails is an error, not a 0. Raises `ConfigError`
        without lmms-eval."""
        metric = official_metric()
        said = grade.extracted if grade.extracted is not None else after_thinking(response)
        document = {name: item.meta.get(name) for name in _FIELDS} | {
            "question": item.question.text
        }
        try:
            found = float(metric(document, [said])["ocrbench_v2_accuracy"]["score"])
        except Exception:  # the metrics parse whatever a model wrote, each in its own way
            _log.exception("OCRBench v2's metric failed on `%s`", item.id)
            return Verdict(None, RolloutStatus.GRADER_ERROR, said, by="metric")
        if not math.isfinite(found):
            return Verdict(None, RolloutStatus.GRADER_ERROR, said, by="metric")
        return Verdict(min(max(found, 0.0), 1.0), extracted=said[:2_000], by="metric")

    def task(self, item: Item, response: str, verdict: Verdict) -> JudgeTask:
        """Never asked: no verdict is open."""
        raise NotImplementedError("OCRBench v2 has no judge")

    def summarize(self, scored: Sequence[Scored]) -> Summary:
        """See `Scorer.summarize`."""
        return summarize_mean(scored, self.breakdown)


def official_metric() -> Callable[[dict[str, Any], list[str]], dict[str, Any]]:
    """`ocrbench_v2_process_results` of lmms-eval. Raises `ConfigError` when it cannot be used."""
    try:
        return importlib.import_module(MODULE).ocrbench_v2_process_results
    except ImportError as error:
        raise ConfigError(
            f"OCRBench v2 is scored by lmms-eval's official metrics, and they cannot be imported "
            f"({error}). Install them with `pip install 'zppo[eval]'`, or into an environment of "
            "their own; predictions are kept, and `zppo eval ... --score-only` scores them there."
        ) from None
    except AttributeError:
        raise ConfigError(
            f"This lmms-eval has no {MODULE}.ocrbench_v2_process_results; 0.7.3 has."
        ) from None
