"""docs/benchmarks.md, written from the declarations: python -m tests.evaluation.benchmarks_page"""

# ruff: noqa: E501  (the lines of a page)
from __future__ import annotations

from pathlib import Path

from zppo.evaluation.benchmark import FAMILIES, Benchmark, Column, shipped
from zppo.evaluation.scorers import scorer_of

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
FAMILY_NAMES = {"vlm": "Images", "llm": "Text", "video": "Video"}
JUDGES = {
    "none": "none",
    "fallback": "decides what the rule refuses; without one, the rule's verdict stands",
    "required": "decides; there is no score without one",
}
SCORERS = {
    "boxed": "the last `\\boxed{}` by the rule of training ([rewards.md](rewards.md))",
    "anls": "ANLS with threshold 0.5, the best of all accepted answers",
    "charxiv": "4 rubrics for reasoning, 7 for descriptive questions",
    "dynamath": "numbers within 0.001, letters and texts by the rule; average and worst case",
    "hle": "yes or no by the judge",
    "mathvista": "integers cut, floats rounded to the data's precision, choices by the rule",
    "mmvet": "0.0 to 1.0 by the judge",
    "mmvu": "choices by the rule, then the judge; open answers by the judge",
    "multichallenge": "the judge answers the target question; the pass criterion is kept from it",
    "ocrbench": "lmms-eval's official metrics (`pip install 'zppo[eval]'`)",
    "vlmsareblind": "by the rule; rows and columns in their order",
    "wemath": "four dimensions (IK, IG, CM, RM), strict and loose",
}
#: What has met more than rows made from its schema.
REAL_ROWS = {
    **dict.fromkeys(
        ("OCREN", "OCRZH"),
        "rows made from its schema; the metrics of lmms-eval 0.7.3 on made answers to some of its types",
    ),
    "AIME25": "all 30 problems, from a copy in one file; see [evaluation.md](evaluation.md#a-small-real-number)",
    "IMO-AB": "50 of the 400 problems, from a copy; see [evaluation.md](evaluation.md#a-small-real-number)",
}

HEAD = """# The 31 benchmarks

The paper's suite: 16 on images, 10 on text, 5 on video. How to run them: [evaluation.md](evaluation.md).
This page is written from the declarations in `src/zppo/evaluation/benchmarks/`; a test fails when the
two differ.

**What has been tried.** This library was written without access to the Hugging Face hub: **no benchmark
has been run against its live data set.** Schemas, splits and counts come from published descriptions.
Every benchmark has been run from end to end, in process with a tiny model and against a mock server, on
rows made from its schema. "Tried on" says where real rows were used as well. Run
`zppo eval --validate --suite vlm,llm,video` first: it names every column that is not as declared.

Licences are those the authors state, as far as we know them; read the data set's card before you use it.

| name | family | questions | scorer | judge | version |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [
        f"| [{b.key}](#{_anchor(b)}) | {b.family} | {_count(b)} | `{b.scorer}` | "
        f"{scorer_of(b).judge} | {b.version} |"
        for b in shipped().values()
    ]
    parts = [HEAD + "\n".join(rows)]
    for family in FAMILIES:
        parts.append(f"## {FAMILY_NAMES[family]}")
        parts += [_entry(b) for b in shipped().values() if b.family == family]
    return "\n\n".join(parts) + "\n"


def _entry(b: Benchmark) -> str:
    sources = [f"`{s.name}`" for s in b.sources]
    first = b.sources[0]
    parts = [f"split {' / '.join(f'`{s}`' for s in first.splits[:3])}"]
    if len(first.splits) > 3:
        parts = [f"{len(first.splits)} splits, `{first.splits[0]}` to `{first.splits[-1]}`"]
    if first.configs:
        shown = ", ".join(f"`{c}`" for c in first.configs[:3])
        more = f" and {len(first.configs) - 3} more" if len(first.configs) > 3 else ""
        parts.append(f"configurations {shown}{more}")
    lines = [
        f"### {b.key}",
        "",
        f"{b.name}." + (f" [Paper]({b.paper})." if b.paper else ""),
        "",
        f"- **Source**: {', '.join(sources[:1])}"
        + (f", otherwise {', '.join(sources[1:])}" if len(sources) > 1 else "")
        + f"; {'; '.join(parts)}.",
        f"- **Questions**: {_count(b)}" + (f" ({b.split_note})" if b.split_note else "") + ".",
        f"- **Columns**: {_columns(b)}.",
        f"- **Scorer**: `{b.scorer}` {scorer_of(b).version}: {SCORERS[b.scorer]}.",
        f"- **Judge**: {JUDGES[scorer_of(b).judge]}.",
        f"- **Licence**: {b.license}.",
        f"- **Elsewhere**: {_elsewhere(b)}.",
        f"- **Tried on**: {REAL_ROWS.get(b.key, 'rows made from its schema; never its live data')}.",
    ]
    lines += [f"- {caveat}" for caveat in b.caveats]
    return "\n".join(lines)


def _columns(b: Benchmark) -> str:
    c = b.columns
    roles: list[tuple[str, Column | None]] = [
        ("question", c.question), ("options", c.options), ("answer", c.answer),
        ("images", c.images), ("videos", c.videos),
    ]  # fmt: skip
    shown = [f"{role} {_column(column)}" for role, column in roles if column is not None]
    return ", ".join(shown) + (f"; read by `{b.reader}`" if b.reader != "plain" else "")


def _column(column: Column) -> str:
    names = [column] if isinstance(column, str) else column
    real = [name for name in names if not name.startswith("_")]
    return ", ".join(f"`{n.replace('|', '` or `')}`" for n in real) if real else "(made)"


def _elsewhere(b: Benchmark) -> str:
    return "; ".join(f"{name} `{task}`" for name, task in b.elsewhere.items()) or "nowhere we know"


def _count(b: Benchmark) -> str:
    return "not known here" if b.count is None else f"{b.count:,}"


def _anchor(b: Benchmark) -> str:
    return b.key.lower()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
