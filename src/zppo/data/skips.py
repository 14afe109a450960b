"""What was left out of a data set, and why: every unusable row is counted, none is lost silently.

Row filters follow section 8 of the method notes (appendix on data of arXiv:2606.18216).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zppo.errors import DataError

EXAMPLES = 5  # kept for each reason


@dataclass(frozen=True, slots=True)
class Skip:
    """One row left out. `row` counts from 1 (for .jsonl it is the line number), `field` names the
    column at fault (empty: the whole row), `reason` is short and countable, `detail` specific."""

    row: int
    field: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        place = f"row {self.row}" + (f", {self.field}" if self.field else "")
        return f"{place}: {self.detail or self.reason}"


@dataclass(frozen=True, slots=True)
class SkipReport:
    """Rows read, and those left out: how many for each reason, with the first examples."""

    total: int
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    examples: Mapping[str, tuple[Skip, ...]] = field(default_factory=dict[str, tuple[Skip, ...]])

    @property
    def skipped(self) -> int:
        return sum(self.counts.values())

    @property
    def kept(self) -> int:
        return self.total - self.skipped

    @property
    def share(self) -> float:
        """Skipped rows as a share of the rows read, 0 when nothing was read."""
        return self.skipped / self.total if self.total else 0.0

    def summary(self) -> str:
        """One paragraph: how many rows were kept, and what the others failed on."""
        if not self.skipped:
            return f"All {self.total} rows are usable."
        reasons = "; ".join(
            f"{count} {reason} (first: {self.examples[reason][0]})"
            for reason, count in self._by_count()
        )
        return (
            f"{self.kept} of {self.total} rows are usable, "
            f"{self.skipped} ({self.share:.1%}) left out: {reasons}."
        )

    def table(self) -> str:
        """One line a reason, most frequent first, each followed by its first examples."""
        lines: list[str] = []
        for reason, count in self._by_count():
            lines.append(f"  {count:>7}  {reason}")
            lines.extend(f"           - {skip}" for skip in self.examples[reason])
        return "\n".join(lines)

    def require(self, where: str, max_share: float, hint: str = "") -> None:
        """Raise `DataError` when more than `max_share` of the rows, or all of them, were left out.

        `where` names the data in the message; `hint` is added below the table of reasons.
        """
        if self.kept and self.share <= max_share:
            return
        if self.kept:
            verdict = (
                f"{where}: {self.skipped} of {self.total} rows ({self.share:.1%}) are unusable, "
                f"more than data.max_skipped_share={max_share:g} allows."
            )
        else:
            verdict = f"{where}: none of the {self.total} rows is usable."
        raise DataError("\n".join(filter(None, (verdict, self.table(), hint))))

    def _by_count(self) -> list[tuple[str, int]]:
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))


class SkipLog:
    """Collects skips while rows are read, then freezes into a `SkipReport`."""

    def __init__(self, told: Callable[[Skip], None] | None = None) -> None:
        """`told` hears of every one of them."""
        self._told = told
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[Skip]] = {}

    def add(self, skip: Skip) -> None:
        if self._told:
            self._told(skip)
        self._counts[skip.reason] = self._counts.get(skip.reason, 0) + 1
        examples = self._examples.setdefault(skip.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(skip)

    def report(self, total: int) -> SkipReport:
        """The report over `total` rows read."""
        examples = {reason: tuple(skips) for reason, skips in self._examples.items()}
        return SkipReport(total=total, counts=dict(self._counts), examples=examples)


class RowProblem(Exception):
    """Internal: this row cannot be used. `load_questions` turns it into a `Skip`."""

    def __init__(self, field: str, reason: str, detail: str = "") -> None:
        super().__init__(field, reason, detail)
        self.field = field
        self.reason = reason
        self.detail = detail

    def at(self, row: int) -> Skip:
        return Skip(row=row, field=self.field, reason=self.reason, detail=self.detail)
