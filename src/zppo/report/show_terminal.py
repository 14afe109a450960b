"""`zppo show` on a terminal: a question a block, a rollout a line; whole texts on demand."""

from __future__ import annotations

from collections.abc import Iterator

from rich.padding import Padding
from rich.text import Text

from zppo.report.reading import GroupRow, RolloutRow
from zppo.report.selection import Visit
from zppo.report.text import one_line, visible

Shown = Text | Padding

_NAMES = {"bcq": "BCQ", "ncq": "NCQ"}


def kind_name(kind: str) -> str:
    """`plain`, `BCQ`, ..."""
    return _NAMES.get(kind, one_line(kind, 20))


def blocks(visit: Visit, full: bool, width: int) -> Iterator[Shown]:
    """What to print for a visit, in order. Nothing of it is read as markup."""
    first = visit.groups[0]
    head = Text(f"step {visit.step}  ", style="bold")
    head.append(visible(visit.question), style="bold cyan")
    head.append(f"  {visible(first.source)}", style="dim")
    if first.gold:
        head.append("  gold ", style="dim")
        head.append(one_line(first.gold, 80))
    if first.replayed:
        head.append("  replayed", style="yellow")
    yield head
    for row in first.media:
        yield Text(f"  {_media(row)}", style="dim")
    for group, size in zip(visit.groups, visit.sizes, strict=True):
        yield from _group(group, size, full, width)
    for rollout in visit.teacher if full else ():
        yield _mark(f"  teacher {'✓' if rollout.correct else '✗'}", rollout.correct)
        yield Padding(Text(visible(rollout.text)), (0, 0, 0, 4))
    for skipped in visit.skipped:
        reason = visible(f"  {kind_name(skipped.kind)} not built: {skipped.reason}")
        yield Text(reason, style="yellow")
    for failure in visit.failures:
        reason = visible(f"  teacher failed at {failure.purpose}: {failure.reason}")
        yield Text(f"{reason} ({failure.count})", style="yellow")
    yield Text("")


def _group(group: GroupRow, size: int, full: bool, width: int) -> Iterator[Shown]:
    right = round(group.accuracy * size)
    line = Text(f"  {kind_name(group.kind)} ", style="bold")
    line.append(f"{right}/{size} right", style="")
    if group.wrong_answers:
        line.append("  listed wrong: " + one_line(", ".join(group.wrong_answers), 80), style="dim")
    yield line
    if full:
        yield Padding(Text(visible(group.prompt), style="blue"), (0, 0, 0, 4))
    elif group.prompt:
        yield Text("    " + one_line(group.prompt, width - 4), style="blue")
    for candidate in () if full else group.candidates:
        mark = "right" if candidate.correct else "wrong"
        words = one_line(candidate.text, max(width - 22, 20))
        yield _mark(f"    candidate, {mark}: {words}", candidate.correct)
    if full:
        for rollout in group.rollouts:
            mark = "✓" if rollout.correct else "✗"
            words = f"    {mark} {one_line(_answer(rollout), 60)}  {_facts(rollout)}"
            yield _mark(words, rollout.correct)
            yield Padding(Text(visible(rollout.text)), (0, 0, 0, 6))
    else:
        yield from _lines(group.rollouts, width)


def _lines(rollouts: tuple[RolloutRow, ...], width: int) -> Iterator[Text]:
    """A line a rollout; those with the same text are one."""
    counted: dict[tuple[str, bool, str], list[RolloutRow]] = {}
    for rollout in rollouts:
        counted.setdefault((rollout.text, rollout.correct, rollout.status), []).append(rollout)
    rows = [(f"{len(same)}x" if len(same) > 1 else "", same[0]) for same in counted.values()]
    answers = [one_line(_answer(rollout), 24) for _, rollout in rows]
    facts = [_facts(rollout) for _, rollout in rows]
    columns = max(map(len, answers)), max(map(len, facts))
    for (times, rollout), answer, fact in zip(rows, answers, facts, strict=True):
        mark = "✓" if rollout.correct else "✗"
        line = _mark(f"    {times:>3} {mark} ", rollout.correct)
        line.append(f"{answer:<{columns[0]}}  ", style="bold")
        line.append(f"{fact:<{columns[1]}}  ", style="dim")
        line.append(one_line(rollout.text, max(width - len(line), 20)))
        yield line


def _facts(rollout: RolloutRow) -> str:
    return f"{rollout.tokens} tok{_advantage(rollout)}{_status(rollout)}"


def _answer(rollout: RolloutRow) -> str:
    return "(none)" if rollout.extracted is None else rollout.extracted


def _advantage(rollout: RolloutRow) -> str:
    return "" if rollout.advantage is None else f"  {rollout.advantage:+.2f}"


def _status(rollout: RolloutRow) -> str:
    words = [] if rollout.status == "graded" else [visible(rollout.status)]
    words += [] if rollout.finished else ["cut"]
    words += ["injected"] if rollout.injected else []
    return "".join(f"  {word}" for word in words)


def _media(row: dict[str, object]) -> str:
    parts = row.get("parts")
    paths = [
        str(p.get("path") or p.get("stored"))
        for p in (parts if isinstance(parts, list) else [])
        if isinstance(p, dict)
    ]
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return visible(f"{row.get('kind')} {paths[0] if paths else ''}{more}")


def _mark(words: str, right: bool) -> Text:
    return Text(words, style="green" if right else "red")
