"""The user pages against the code: every metric has its row, every link its target."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny
from tests.e2e.test_methods import LuckyGrader
from zppo.config import Config, load_config
from zppo.lab import models
from zppo.runs.build import RunParts, build_run
from zppo.runs.train import train
from zppo.types import GroupKind, GroupOutcome, RolloutStatus

ROOT = Path(__file__).parents[1]
PLACES = {
    "KIND": "|".join(GroupKind),
    "OUTCOME": "|".join(GroupOutcome),
    "STATUS": "|".join(RolloutStatus),
    "REASON": "[a-z_]+",
}
#: Keys that a step only has where something fails, with several teachers or with a judge.
RARE = {
    "zone/skipped_reasons",
    "zone/compress_refused/REASON",
    "zone/hint_refused/REASON",
    "teacher/failed/REASON",
    "teacher/solved_by_later",
    "update/left_out",
    *(f"judge/{name}" for name in ("calls", "cache_hits", "malformed", "errors")),
    *(f"judge/{name}" for name in ("failed/REASON", "checked", "disagreement")),
}
#: Pages that others link to before they are there.
PENDING: set[str] = set()
_ROW = re.compile(r"^\| `([A-Za-z_/]+)` \|[^|]*\| (.+) \|$", re.MULTILINE)


def documented() -> dict[str, re.Pattern[str]]:
    """Pattern of every key in the table of docs/training.md."""
    section = (ROOT / "docs/training.md").read_text("utf-8").partition("### metrics.jsonl")[2]
    table = section.partition("\n## ")[0]
    keys = [key for key, _ in _ROW.findall(table)]
    assert len(keys) == len(set(keys)), "a key is listed twice"
    assert len(keys) == table.count("\n| `"), "a row that is not of the table's form"
    return {
        key: re.compile("/".join(f"(?:{PLACES.get(p, p)})" for p in key.split("/"))) for key in keys
    }


def _lucky(config: Config) -> RunParts:
    parts = build_run(config)
    return replace(parts, step=replace(parts.step, grader=LuckyGrader()))


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Keys of real steps, of three methods that bring all kinds of groups."""
    folder = tmp_path_factory.mktemp("docs")
    loaded = tiny.loaded("vlm")
    models.save(loaded.model, loaded.tokenizer, folder / "model")
    keys: set[str] = set()
    for method in ("zppo", "grpo+replay+hint", "grpo+replay+prefix"):
        overrides = [
            f"method={method}",
            f"student.model={folder / 'model'}",
            "student.threads=1",
            "data.limit=48",
            "data.validation=null",
            f"run.dir={folder / method}",
            "run.steps=2",
            "run.prompts_per_step=8",
            "run.tensorboard=false",
            "algorithm.group_size=4",
            "algorithm.rho_aug=0.5",
            "algorithm.drop_trivial_questions=true",
            "algorithm.ncq_gate=1.0",
            "rollout.max_response_tokens=10",
        ]
        train(load_config("lab", overrides), build=_lucky, quiet=True)
        for line in (folder / method / "metrics.jsonl").read_text("utf-8").splitlines():
            keys |= json.loads(line).keys()
    return keys


def test_every_metric_is_documented(emitted: set[str]) -> None:
    patterns = documented().values()
    assert not [key for key in emitted if not any(p.fullmatch(key) for p in patterns)]


def test_every_documented_metric_exists(emitted: set[str]) -> None:
    unseen = {key for key, p in documented().items() if not any(map(p.fullmatch, emitted))}
    assert unseen <= RARE


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs", "benchmarks"])
def test_links_lead_somewhere(page: str) -> None:
    start = ROOT / page
    pages = sorted(start.glob("*.md")) if start.is_dir() else [start]
    assert pages
    broken = [
        f"{file.name}: {target}"
        for file in pages
        for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text("utf-8"))
        if not target.startswith("http") and target not in PENDING and not _exists(file, target)
    ]
    assert not broken


def _exists(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    return file.exists() and (not anchor or anchor in _anchors(file))


def _anchors(file: Path) -> set[str]:
    """Headings as GitHub spells them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
