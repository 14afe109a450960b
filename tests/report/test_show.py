"""What `zppo show` finds, how much of it is shown, and that it says what is not."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.runs.fakes import fake_build, fake_config
from zppo.errors import RunError
from zppo.evaluation.files import append_lines
from zppo.report.labels import labels
from zppo.report.reading import read_run
from zppo.report.report import report
from zppo.report.selection import Filter, open_source, visits
from zppo.report.show import parse_steps, show
from zppo.runs.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("show") / "run"
    train(fake_config(root, "run.steps=3", "algorithm.rho_aug=0.5"), build=fake_build, quiet=True)
    return root


def found(path: Path, **wanted: object):
    return list(visits(open_source(path), Filter(**wanted)))  # type: ignore[arg-type]


def printed(path: Path, wanted: Filter, **more: object) -> str:
    out = io.StringIO()
    show(path, wanted, console=Console(file=out, width=100), **more)  # type: ignore[arg-type]
    return out.getvalue()


def test_the_last_step_unless_a_step_a_question_or_a_text_is_named(run: Path) -> None:
    assert {v.step for v in found(run)} == {3}
    assert {v.step for v in found(run, steps=(1, 2))} == {1, 2}
    question = found(run)[0].question
    assert {v.question for v in found(run, question=question)} == {question}
    assert {v.step for v in found(run, search="WHAT IS")} == {1, 2, 3}


def test_a_question_comes_with_all_its_groups_and_the_teacher(run: Path) -> None:
    visit = next(v for v in found(run, steps=(1, 3)) if len(v.groups) > 1)
    assert visit.groups[0].kind == "plain" and visit.groups[1].kind == "bcq"
    assert visit.teacher and {g.question for g in visit.groups} == {visit.question}


def test_kind_and_reward_narrow_groups_and_rollouts(run: Path) -> None:
    groups = [g for v in found(run, steps=(1, 3), kind="ncq", reward=1) for g in v.groups]
    assert groups and {g.kind for g in groups} == {"ncq"}
    assert all(r.correct for g in groups for r in g.rollouts)
    some = next(v for v in found(run, steps=(1, 3), reward=1) if len(v.groups[0].rollouts) < 4)
    assert some.sizes[0] == 4  # the whole group is still counted


def test_an_evaluation_can_be_shown(run: Path) -> None:
    path = run / "evaluations" / "step-000003.jsonl.gz"
    shown = printed(path, Filter(), limit=1)
    assert shown.startswith("step 3  v0  text/sums  gold 0") and "There is more" in shown


def test_a_benchmarks_responses_can_be_shown(tmp_path: Path) -> None:
    folder = tmp_path / "mathvista"
    blank = {"finished": True, "tokens": 4, "error": "", "prompt": "0"}
    answers = [
        {"id": "a", "sample": 1, "text": r"so \boxed{2}", **blank},
        {"id": "a", "sample": 0, "text": r"so \boxed{1}", **blank},
        {"id": "b", "sample": 0, "text": None, **blank, "error": "the server was gone"},
    ]
    append_lines(folder / "predictions.jsonl", answers)
    score = {"cluster": "a", "status": "graded", "by": "rule"}
    scores = [
        {"id": "a", "sample": 0, "score": 1.0, "extracted": "1", **score},
        {"id": "a", "sample": 1, "score": 0.0, "extracted": "2", **score},
    ]
    append_lines(folder / "scores.jsonl", scores)
    shown = printed(folder, Filter())
    assert "a  mathvista" in shown and "plain 1/2 right" in shown
    assert shown.index("✓ 1") < shown.index("✗ 2")
    assert "the server was gone" in shown
    (folder / "predictions.jsonl").write_text('{"id": "a"}\n', "utf-8")
    with pytest.raises(RunError, match="misuse 'sample'"):
        show(folder, Filter())


def test_a_terminal_shows_a_line_a_rollout_and_whole_texts_when_asked(run: Path) -> None:
    wanted = Filter(kind="bcq", steps=(1, 3))
    short, full = (printed(run, wanted, limit=1, full=f) for f in (False, True))
    assert "candidate, right: " in short and "candidate, wrong: " in short
    assert all(len(line) <= 100 for line in short.splitlines())
    assert "teacher ✓" in full and "<candidate>" in full
    assert "<think>so</think>" in short


def test_equal_responses_are_one_line(run: Path) -> None:
    visit = next(v for v in found(run, steps=(1, 3)) if v.groups[0].accuracy == 0.5)
    shown = printed(run, Filter((visit.step, visit.step), "plain", 1, None, visit.question))
    assert shown.count("✓") == 2  # a named question is shown whole
    shown = printed(run, Filter((visit.step, visit.step), "plain", 1, None, None), limit=99)
    assert "2x ✓" in shown


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Filter(question="nobody"), "Nothing in `run` fits"),
        (Filter(steps=(7, 9)), "no log of step 7-9, only 1 to 3"),
    ],
)
def test_nothing_to_show_says_so(run: Path, wanted: Filter, message: str) -> None:
    with pytest.raises(RunError, match=message):
        show(run, wanted)


def test_a_page_is_bounded_and_says_what_it_left_out(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "show.html"
    said = printed(run, Filter(steps=(1, 3)), html=page, limit=2)
    assert "2 questions" in said and "after the first 2 questions" in said
    text = page.read_text("utf-8")
    assert text.count("<article") == 2 and "Left out: what comes after the first 2" in text
    said = printed(run, Filter(steps=(1, 3)), html=page, max_mb=0.02)
    assert "after 0.02 MB, from step" in said
    assert page.stat().st_size < 50_000
    printed(run, Filter(), html=page)
    assert "Left out" not in page.read_text("utf-8")


def test_steps_are_a_number_or_a_range() -> None:
    assert parse_steps(None) is None
    assert parse_steps("7") == (7, 7) and parse_steps("5-9") == (5, 9)
    for bad in ("x", "5-", "-5", "5-x", ""):
        with pytest.raises(RunError, match="--step"):
            parse_steps(bad)


def test_runs_of_one_name_are_told_apart_by_their_folders(run: Path, tmp_path: Path) -> None:
    one, two = (read_run(run) for _ in range(2))
    with pytest.raises(RunError, match="named twice"):
        labels([one, two])
    other = tmp_path / "elsewhere" / "run"
    train(fake_config(other, "run.steps=1"), build=fake_build, quiet=True)
    assert labels([one]) == ["run"]
    assert labels([one, read_run(other)]) == [f"{run.parent.name}/run", "elsewhere/run"]


def test_a_report_names_every_run_and_pools_seeds(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "seed1"
    train(
        fake_config(other, "run.steps=3", "algorithm.rho_aug=0.5", "seed=1"),
        build=fake_build,
        quiet=True,
    )
    page = tmp_path / "report.html"
    report([run, other], page)
    text = page.read_text("utf-8")
    assert ">seed1</button>" in text and ">run</button>" in text
    report([run, other], page, mean=True)
    text = page.read_text("utf-8")
    assert "<dt>seeds</dt><dd>0, 1</dd>" in text and 'class="band"' in text
    assert ">seed1</button>" not in text
    assert "<h2>Audit</h2>" in text
    report([run], page, audit=False)
    assert "<h2>Audit</h2>" not in page.read_text("utf-8")


def test_a_run_without_a_step_cannot_be_reported(tmp_path: Path) -> None:
    train(fake_config(tmp_path / "run", "run.steps=1"), build=fake_build, quiet=True)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match="no step to report on"):
        report([tmp_path / "run"], tmp_path / "report.html")
