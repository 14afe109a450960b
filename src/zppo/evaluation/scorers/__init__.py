"""One scorer a kind of benchmark, by the name that declarations use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from zppo.errors import ConfigError
from zppo.evaluation.benchmark import Benchmark
from zppo.evaluation.scorers.anls import Anls
from zppo.evaluation.scorers.base import Scorer
from zppo.evaluation.scorers.boxed import Boxed
from zppo.evaluation.scorers.dynamath import DynaMath
from zppo.evaluation.scorers.judged import MAKERS, Judged
from zppo.evaluation.scorers.mathvista import MathVista
from zppo.evaluation.scorers.mmvu import Mmvu
from zppo.evaluation.scorers.ocrbench import OcrBench
from zppo.evaluation.scorers.vlmsareblind import VlmsAreBlind
from zppo.evaluation.scorers.wemath import WeMath

_SCORERS: dict[str, Callable[..., Any]] = {
    "anls": Anls,
    "boxed": Boxed,
    "dynamath": DynaMath,
    "mathvista": MathVista,
    "mmvu": Mmvu,
    "ocrbench": OcrBench,
    "vlmsareblind": VlmsAreBlind,
    "wemath": WeMath,
    **{name: partial(Judged, name, make) for name, make in MAKERS.items()},
}


def scorer_of(benchmark: Benchmark) -> Scorer:
    """The scorer a benchmark names. Raises `ConfigError` when there is none."""
    make = _SCORERS.get(benchmark.scorer)
    if make is None:
        raise ConfigError(
            f"Benchmark `{benchmark.key}`: there is no scorer `{benchmark.scorer}`; scorers: "
            f"{', '.join(sorted(_SCORERS))}."
        )
    return make(breakdown=benchmark.breakdown)
