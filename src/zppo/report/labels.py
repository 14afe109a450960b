"""Names of runs that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence

from zppo.errors import RunError
from zppo.report.reading import Run


def labels(runs: Sequence[Run]) -> list[str]:
    """A name a run: its folder's, with as many parents as it takes to tell the runs apart.

    Raises `RunError` when a run is named twice.
    """
    roots = [run.root.resolve() for run in runs]
    if twice := next((r for r in roots if roots.count(r) > 1), None):
        raise RunError(f"`{twice}` is named twice.")
    depth = next(
        depth
        for depth in range(1, max(len(root.parts) for root in roots) + 1)
        if len({root.parts[-depth:] for root in roots}) == len(roots)
    )
    return ["/".join(root.parts[-depth:]) for root in roots]
