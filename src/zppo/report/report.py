"""`zppo report`: every curve of some runs in one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zppo.errors import RunError
from zppo.report.audit_command import audit_all
from zppo.report.audit_tables import tables
from zppo.report.breakdown import of_run
from zppo.report.charts import Chart, Stack, hover, line_key, say, svg
from zppo.report.compare_runs import group_runs
from zppo.report.curves import Member, rest, sections
from zppo.report.labels import labels
from zppo.report.page import data_block, page, text
from zppo.report.reading import Run, read_run
from zppo.report.svg_file import drawings
from zppo.report.tables import Table, html
from zppo.runs.files import write_atomic

#: Runs whose own charts stand open.
_OPEN = 3
#: More runs than this are listed in a table.
_CARDS = 6


def report(
    paths: Sequence[Path],
    output: Path,
    *,
    mean: bool = False,
    audit: bool = True,
    svg_folder: Path | None = None,
) -> Path:
    """Write the report of the runs in `paths` to `output`.

    `mean` draws the runs of one method and setting, which differ in their seed, as one curve.
    Without `audit` no rollout log is read. `svg_folder` gets the overlays as files of their own.
    Raises `RunError` for a run that cannot be read or has no step yet.
    """
    runs = [read_run(path) for path in paths]
    for run in runs:
        if not run.metrics:
            raise RunError(f"`{run.root}` has no step to report on yet.")
    groups = group_runs(runs) if mean else {n: [r] for n, r in zip(labels(runs), runs, strict=True)}
    logged = {name: logs for name, some in groups.items() if audit and (logs := _logged(some))}
    audits = dict(zip(logged, audit_all(logged), strict=True))
    members = [
        Member(name, slot, tuple(some), audits.get(name))
        for slot, (name, some) in enumerate(groups.items())
    ]
    write_atomic(output, render(members).encode("utf-8"))
    if svg_folder is not None:
        for name, drawing in drawings(members).items():
            write_atomic(svg_folder / f"{name}.svg", drawing.encode("utf-8"))
    return output


def _logged(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.rollout_steps()]


def render(members: Sequence[Member]) -> str:
    """The page."""
    charts: list[Chart] = []

    def grid(some: Sequence[Chart]) -> str:
        start = len(charts)
        charts.extend(some)
        figures = (_figure(chart, f"f{start + i}") for i, chart in enumerate(some))
        return f"<div class=grid>{''.join(figures)}</div>"

    parts = [_top(members), _bar(members), "<main>", _runs(members)]
    for section in sections(members):
        parts.append(f"<section><h2>{text(section.title)}</h2>")
        parts.append(f"<p class=soft>{text(section.text)}</p>" if section.text else "")
        parts.append(grid(section.charts) + "</section>")
    audits = [member.audit for member in members if member.audit]
    if audits:
        found = "".join(map(html, tables(audits)))
        parts.append(f"<section><h2>Audit</h2><div class=tables>{found}</div></section>")
    shown = [(member, member.runs[0]) for member in members]
    parts.append("<section><h2>Run by run</h2>")
    for member, run in shown:
        opened = " open" if len(shown) <= _OPEN else ""
        seed = f", seed {run.config.seed}" if len(member.runs) > 1 else ""
        parts.append(
            f"<details{opened}><summary>{text(member.label + seed)}</summary>"
            f"{grid(of_run(run))}</details>"
        )
    if more := rest(members):
        parts.append(f"<details><summary>All other metrics</summary>{grid(more)}</details>")
    parts.append("</section></main>")
    parts.append(data_block("data", {f"f{i}": hover(chart) for i, chart in enumerate(charts)}))
    body = "\n".join(parts)
    title = "zppo: " + ", ".join(member.label for member in members)
    return page(
        title,
        body,
        ("page.css", "chart.css", "report.css"),
        ("theme.js", "report.js"),
    )


# -- parts ----------------------------------------------------------------------------------------


def _top(members: Sequence[Member]) -> str:
    count = sum(len(member.runs) for member in members)
    title = members[0].label if len(members) == 1 else f"{count} runs"
    return (
        f"<header class=top><h1>{text(title)}</h1>"
        '<button type=button id=smooth aria-pressed="true">Smoothed</button>'
        "<button id=theme type=button>Dark</button></header>"
    )


def _bar(members: Sequence[Member]) -> str:
    buttons = [
        f'<button type=button data-member="{i}" aria-pressed="true">{line_key(m.slot)}'
        f"{text(m.label)}</button>"
        for i, m in enumerate(members)
    ]
    return f'<nav class=bar aria-label="Runs shown"><div>{"".join(buttons)}</div></nav>'


def _runs(members: Sequence[Member]) -> str:
    facts = [_facts(member) for member in members]
    if len(members) <= _CARDS:
        return f"<div class=grid>{''.join(map(_card, members, facts))}</div>"
    columns = tuple(dict.fromkeys(name for one in facts for name in one))
    rows = tuple(
        (member.label, *(one.get(name, "") for name in columns))
        for member, one in zip(members, facts, strict=True)
    )
    return f"<div class=tables>{html(Table('Runs', ('', *columns), rows))}</div>"


def _card(member: Member, facts: dict[str, str]) -> str:
    listed = "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in facts.items())
    heading = f"<h3>{line_key(member.slot)}{text(member.label)}</h3>"
    return f"<article class='card run'>{heading}<dl>{listed}</dl></article>"


def _facts(member: Member) -> dict[str, str]:
    """What tells runs apart, in words; means where the member has several."""
    run = member.runs[0]
    config = run.config
    several = len(member.runs) > 1
    found = {
        "method": config.method,
        "seeds" if several else "seed": ", ".join(str(r.config.seed) for r in member.runs),
        "student": config.student.model,
        "teacher": config.teacher.kind if config.teacher else "none",
        "steps": f"{run.steps:,} of {config.run.steps:,}",
        "time": say(_mean(member, "time/total"), "seconds"),
        "tokens sampled": say(round(_mean(member, "tokens/sampled")), "count"),
        "validation accuracy": _before_after(member),
    }
    if any(r.series("buffer/size") for r in member.runs):
        found["graduated"] = say(_mean(member, "buffer/graduated"), "count")
    return {name: value for name, value in found.items() if value}


def _mean(member: Member, key: str) -> float:
    return sum(run.total(key) for run in member.runs) / len(member.runs)


def _before_after(member: Member) -> str:
    found = [run.evaluations for run in member.runs if run.evaluations]
    if not found:
        return ""
    before = sum(rows[0].accuracy["all"] for rows in found) / len(found)
    after = sum(rows[-1].accuracy["all"] for rows in found) / len(found)
    return f"{say(before, 'share')} → {say(after, 'share')}"


def _figure(chart: Chart, name: str) -> str:
    note = f"<small>{text(chart.note)}</small>" if chart.note else ""
    legend = _legend(chart) if isinstance(chart, Stack) else ""
    return (
        f'<figure class=chart id="{name}"><figcaption>{text(chart.title)}{note}</figcaption>'
        f"{svg(chart)}{legend}</figure>"
    )


def _legend(chart: Stack) -> str:
    items = (
        '<li><svg class=key width="10" height="10" aria-hidden="true">'
        f'<rect width="10" height="10" style="fill:{layer.colour}"/></svg>{text(layer.label)}</li>'
        for layer in chart.layers
    )
    return f"<ul class=legend>{''.join(items)}</ul>"
