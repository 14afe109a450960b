"""`zppo report`, `show` and `audit` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from tests.runs.fakes import fake_build, fake_config
from zppo.cli import app
from zppo.runs.train import train

runner = CliRunner()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands") / "zppo-1"
    train(fake_config(root, "run.steps=3", "algorithm.rho_aug=0.5"), build=fake_build, quiet=True)
    return root


def test_help_names_the_commands() -> None:
    shown = runner.invoke(app, ["--help"]).output
    for verb in ("report", "show", "audit"):
        assert f"  {verb} " in shown


def test_report_writes_one_file(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    result = runner.invoke(app, ["report", str(run), "--output", str(page)])
    assert result.exit_code == 0 and result.output == f"Wrote {page}\n"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    text = page.read_text("utf-8")
    for title in ("Plain accuracy", "Policy entropy", "Batch composition", "Time by phase", "NCQ:"):
        assert title in text


def test_overlays_as_files_are_xml_of_their_own(run: Path, tmp_path: Path) -> None:
    page, folder = tmp_path / "r.html", tmp_path / "plots"
    args = ["report", str(run), "--output", str(page), "--svg", str(folder), "--no-audit"]
    assert runner.invoke(app, args).exit_code == 0
    drawing = ElementTree.parse(folder / "training-accuracy-plain-accuracy.svg").getroot()
    words = [e.text for e in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert words[:2] == ["Plain accuracy", "zppo-1"] and "0%" in words
    assert "url(" not in (folder / "training-accuracy-plain-accuracy.svg").read_text("utf-8")


def test_audit_as_table_markdown_and_json(run: Path) -> None:
    table, markdown, data = (
        runner.invoke(app, ["audit", str(run), "--format", f]).output
        for f in ("table", "markdown", "json")
    )
    assert "zppo-1" in table and "paper, 0.8B" in table
    assert markdown.startswith("### BCQ") and "| zppo-1 |" in markdown
    (audit,) = json.loads(data)
    assert audit["name"] == "zppo-1" and len(audit["windows"]) == 3
    windows = runner.invoke(app, ["audit", str(run), "--window", "2", "--format", "json"]).output
    assert [w["last"] for w in json.loads(windows)[0]["windows"]] == [2, 3]


def test_show_filters_from_the_command_line(run: Path) -> None:
    args = ["show", str(run), "--step", "1-3", "--kind", "ncq", "--reward", "0", "--limit", "1"]
    result = runner.invoke(app, args)
    assert result.exit_code == 0
    assert "NCQ" in result.output and "✗" in result.output and "✓" not in result.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["report", "nowhere"], "`nowhere` is not a run"),
        (["audit", "nowhere"], "`nowhere` is not a run"),
        (["show", "nowhere"], "`nowhere` is not a run"),
        (["show", "RUN", "--step", "soon"], "--step soon"),
        (["show", "RUN", "--question", "none"], "Nothing in `zppo-1` fits"),
        (["report", "RUN", "RUN"], "named twice"),
    ],
)
def test_mistakes_are_one_message(args: list[str], message: str, run: Path) -> None:
    result = runner.invoke(app, [str(run) if a == "RUN" else a for a in args])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert "Traceback" not in result.output
