"""The paper's own figures (arXiv:2606.18216v1), as data beside the package's code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from zppo.errors import ConfigError

SCALES = ("0.8B", "2B", "4B", "9B")
#: Parameters as the paper's cost table counts them.
PARAMETERS = {"0.8B": 0.8e9, "2B": 2e9, "4B": 4e9, "9B": 9e9}
TEACHER_PARAMETERS = 27e9


@cache
def figures() -> Mapping[str, Any]:
    """The whole file, with its `source`. Accuracies in percent, costs in hours and FLOPs."""
    return json.loads((files("zppo.report") / "paper.json").read_text("utf-8"))


def accuracy(scale: str) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy in [0, 1] of every benchmark, by method and family, without the printed averages.

    Off- and on-policy distillation without replay were only printed for the VLM family. Raises
    `ConfigError` for a scale the paper does not have.
    """
    if scale not in SCALES:
        raise ConfigError(f"The paper has no scale `{scale}`; it has {', '.join(SCALES)}.")
    return {
        method: {
            family: {name: value / 100 for name, value in scores.items() if name != "Avg"}
            for family, scores in families.items()
        }
        for method, families in figures()["accuracy"][scale].items()
    }
