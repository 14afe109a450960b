"""`zppo show --html`: questions with their images, prompts, candidates and rollouts as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zppo.report.page import page, text
from zppo.report.reading import GroupRow, RolloutRow
from zppo.report.selection import Source, Visit
from zppo.report.show_terminal import kind_name
from zppo.report.text import cut, one_line
from zppo.report.thumbnails import Thumbnails
from zppo.runs.files import write_atomic
from zppo.types import Candidate, TeacherRollout

#: Characters of one text at most; a response has up to tens of thousands.
LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class Written:
    """What a page holds, its size in bytes, and in words what was left out of it."""

    visits: int
    size: int
    left_out: str


def write_page(
    path: Path, source: Source, found: Iterator[Visit], limit: int, max_mb: float
) -> Written:
    """Write the page, at most `limit` questions and about `max_mb` megabytes; it says itself what
    was left out. Raises `RunError` when it cannot be written."""
    thumbnails = Thumbnails(source.media)
    articles: list[str] = []
    size, left_out = 0, ""
    for visit in found:
        if len(articles) == limit:
            left_out = f"what comes after the first {limit} questions; --limit asks for more"
            break
        article = _article(visit, thumbnails)
        if articles and size + len(article) > max_mb * 1e6:
            left_out = f"what comes after {max_mb:g} MB, from step {visit.step} on; see --max-mb"
            break
        articles.append(article)
        size += len(article)
    content = _page(source.name, articles, left_out).encode("utf-8")
    write_atomic(path, content)
    return Written(len(articles), len(content), left_out)


def _page(name: str, articles: list[str], left_out: str) -> str:
    cut_note = f" Left out: {text(left_out)}." if left_out else ""
    body = (
        f"<header class=top><h1>{text(name)}</h1>"
        "<button id=theme type=button>Dark</button></header>"
        "<main><form class=filters role=search>"
        "<label>Prompt <select id=kind><option value=''>all</option></select></label>"
        "<label>Rollouts <select id=reward><option value=''>all</option>"
        "<option value='1'>right</option><option value='0'>wrong</option></select></label>"
        "<label class=wide><span class=sr>Search</span>"
        "<input id=search type=search placeholder='Search in all texts'></label>"
        "<button id=unfold type=button>Open all</button>"
        f"<output id=count>{len(articles)} questions</output></form>"
        f"<p class=soft>{len(articles)} questions, each at one step.{cut_note} "
        f"Texts longer than {LONGEST:,} characters are cut where they say so.</p>"
        f"{''.join(articles)}</main>"
    )
    return page(name, body, ("page.css", "show.css"), ("theme.js", "show.js"))


def _article(visit: Visit, thumbnails: Thumbnails) -> str:
    first = visit.groups[0]
    replayed = "<span class=tag>replayed</span>" if first.replayed else ""
    question = f"<p class=question>{text(one_line(first.prompt, 240))}</p>" if first.prompt else ""
    gold = f"<p>gold: <b><bdi>{text(cut(first.gold, 2000))}</bdi></b></p>" if first.gold else ""
    groups = "".join(map(_group, visit.groups, visit.sizes))
    return (
        f"<article class=card><h2><span class=soft>step {visit.step}</span> "
        f"<bdi>{text(visit.question)}</bdi> <span class=soft><bdi>{text(first.source)}</bdi></span>"
        f"{replayed}</h2>{question}{gold}"
        f"{_media(first, thumbnails)}{groups}{_teacher(visit.teacher)}{_troubles(visit)}</article>"
    )


def _media(group: GroupRow, thumbnails: Thumbnails) -> str:
    parts: list[str] = []
    for row in group.media:
        images, words = thumbnails.of(row)
        caption = f"<figcaption class=soft>{text(words)}</figcaption>"
        parts.append(f"<figure class=media>{''.join(images)}{caption}</figure>")
    return "".join(parts)


def _group(group: GroupRow, size: int) -> str:
    right = round(group.accuracy * size)
    candidates = "".join(map(_candidate, group.candidates))
    rollouts = "".join(map(_rollout, group.rollouts))
    opened = " open" if group.kind != "plain" else ""
    return (
        f'<details class=group data-kind="{text(group.kind)}"{opened}>'
        f"<summary>{text(kind_name(group.kind))} <b>{right}/{size}</b> right</summary>"
        f"<details class=prompt><summary>Prompt</summary>{_pre(group.prompt)}</details>"
        f"{candidates}{rollouts}</details>"
    )


def _candidate(candidate: Candidate) -> str:
    word = "right" if candidate.correct else "wrong"
    original = ""
    if candidate.original.strip() != candidate.text.strip():
        original = f"<details><summary>before compression</summary>{_pre(candidate.original)}"
        original += "</details>"
    return (
        f'<div class="candidate {word}"><b>candidate, {word}</b>'
        f"{_pre(candidate.text)}{original}</div>"
    )


def _rollout(rollout: RolloutRow) -> str:
    answer = "no answer" if rollout.extracted is None else cut(rollout.extracted, 200)
    facts = [f"{rollout.tokens:,} tokens"]
    facts += [] if rollout.advantage is None else [f"advantage {rollout.advantage:+.2f}"]
    facts += [] if rollout.status == "graded" else [rollout.status]
    facts += [] if rollout.finished else ["cut by the limit"]
    facts += ["injected"] if rollout.injected else []
    mark, word = ("✓", "right") if rollout.correct else ("✗", "wrong")
    return (
        f'<details class="rollout {word}" data-reward="{int(rollout.correct)}"><summary>'
        f"<span class=mark>{mark}</span> <b><bdi>{text(answer)}</bdi></b> "
        f"<span class=soft>{text(', '.join(facts))}</span></summary>{_pre(rollout.text)}</details>"
    )


def _teacher(rollouts: tuple[TeacherRollout, ...]) -> str:
    if not rollouts:
        return ""
    right = sum(rollout.correct for rollout in rollouts)
    shown = "".join(
        f'<div class="candidate {"right" if r.correct else "wrong"}">{_pre(r.text)}</div>'
        for r in rollouts
    )
    return (
        f"<details class=group data-kind=teacher><summary>teacher <b>{right}/{len(rollouts)}</b> "
        f"right</summary>{shown}</details>"
    )


def _troubles(visit: Visit) -> str:
    lines = [f"{kind_name(s.kind)} not built: {s.reason}" for s in visit.skipped]
    lines += [f"teacher failed at {f.purpose}: {f.reason} ({f.count})" for f in visit.failures]
    return "".join(f"<p class=note>{text(line)}</p>" for line in lines)


def _pre(content: str) -> str:
    return f"<pre dir=auto>{text(cut(content, LONGEST))}</pre>"
