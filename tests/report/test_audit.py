"""The audit on logs whose every share can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.logs import group, log, teacher
from tests.runs.fakes import fake_build, fake_config
from zppo.config_rewards import RewardsConfig
from zppo.errors import RunError
from zppo.report.audit import Groups, Matches, audit_run, audit_step, merge, pool
from zppo.report.audit_tables import as_json, tables
from zppo.report.matching import Matcher
from zppo.report.reading import read_run
from zppo.report.tables import markdown
from zppo.runs.train import train
from zppo.types import Candidate

IN_PROCESS = RewardsConfig(isolate=False)

PAIR = (Candidate("right", "", True, "1/2"), Candidate("wrong", "", False, "3"))


def test_bcq_answers_are_held_against_both_candidates_by_value() -> None:
    """Gold 0.5. Right: 0.5 and \\frac{1}{2} equal the positive. Wrong: 3.0 equals the negative, 7
    and no answer equal neither."""
    answers = ["0.5", r"\frac{1}{2}", "3.0", "7", None]
    bcq = group("bcq", answers, [1, 1, 0, 0, 0], candidates=PAIR)
    with Matcher(IN_PROCESS) as matcher:
        found = audit_step(log(4, bcq), matcher)
    assert (found.first, found.last) == (4, 4)
    assert found.bcq_right == Matches(positive=2)
    assert found.bcq_wrong == Matches(negative=1, other=2)


def test_a_right_answer_can_equal_neither_or_even_the_wrong_candidate() -> None:
    """The judge can call an answer right that equals the candidate it called wrong."""
    bcq = group("bcq", ["3", "8"], [1, 1], candidates=PAIR)
    with Matcher(IN_PROCESS) as matcher:
        found = audit_step(log(1, bcq), matcher)
    assert found.bcq_right == Matches(negative=1, other=1)


def test_ncq_answers_are_held_against_the_list_and_the_hidden_teacher() -> None:
    """Listed: 3, 4. Teacher: 5 (right) and 9 (wrong, so no answer to match)."""
    ncq = group("ncq", ["3.0", "4", "5", "9"], [0, 0, 1, 0], wrong_answers=("3", "4"))
    with Matcher(IN_PROCESS) as matcher:
        found = audit_step(log(1, ncq, teacher=teacher(q=[("5", True), ("9", False)])), matcher)
        unsolved = audit_step(log(1, ncq, teacher=teacher(q=[("9", False)])), matcher)
    assert found.ncq == Matches(positive=1, negative=2, other=1)
    assert found.ncq_right == Matches(positive=1) and found.ncq_unsolved == 0
    assert unsolved.ncq == Matches(negative=2, other=2) and unsolved.ncq_unsolved == 4


def test_groups_on_questions_with_no_right_plain_rollout() -> None:
    """Question q is all wrong, r is not; an injected right rollout does not make s solved."""
    groups = [
        group("plain", ["1", "1"], [0, 0], question="q"),
        group("plain", ["1", "1"], [0, 1], question="r"),
        group("plain", ["1", "1"], [0, 1], question="s", injected=1),
        group("bcq", ["1", "1"], [0, 1], question="q"),
        group("bcq", ["1", "1"], [1, 1], question="r"),
        group("bcq", ["1", "1"], [0, 0], question="s"),
    ]
    with Matcher(IN_PROCESS) as matcher:
        found = audit_step(log(1, *groups), matcher)
    assert found.kinds["bcq"] == Groups(3, 1, 6, 3, hard_groups=2, hard_rollouts=4, hard_right=1)
    assert merge([found, found]).kinds["bcq"].hard_right == 2


def test_an_answer_that_must_be_read_goes_to_a_process_with_a_deadline() -> None:
    with Matcher(RewardsConfig(workers=1)) as matcher:
        found = matcher.match([(r"\frac{1}{2}", "0.5"), (r"\sqrt{4}", "3"), ("2", "2.0")])
    assert found.equal == {(r"\frac{1}{2}", "0.5"), ("2", "2.0")}
    assert found.undecided == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audit") / "run"
    train(fake_config(root, "run.steps=4", "algorithm.rho_aug=0.5"), build=fake_build, quiet=True)
    return root


def test_a_run_is_audited_as_a_whole_and_in_windows(run: Path) -> None:
    audit = audit_run(read_run(run), window=3)
    assert [(w.first, w.last) for w in audit.windows] == [(1, 3), (4, 4)]
    assert merge(audit.windows) == audit.total
    bcq = audit.total.kinds["bcq"]
    assert bcq.right == audit.total.bcq_right.total > 0
    assert bcq.rollouts - bcq.right == audit.total.bcq_wrong.total > 0
    # The fake student is right only with the gold answer, which is the positive's.
    assert audit.total.bcq_right.other == 0
    assert as_json(audit)["shares"]["bcq_right"]["positive"] == 1.0


def test_seeds_pooled_are_added_up_and_their_questions_kept_apart(run: Path) -> None:
    audit = audit_run(read_run(run), window=3)
    both = pool("zppo", [audit, audit])
    assert both.total.kinds["bcq"] == audit.total.kinds["bcq"] + audit.total.kinds["bcq"]
    assert [(w.first, w.last) for w in both.windows] == [(1, 3), (4, 4)]
    once, twice = audit.transfer[0], both.transfer[0]
    assert (twice.returns, twice.questions) == (2 * once.returns, 2 * once.questions)
    assert twice.after == pytest.approx(once.after)


def test_tables_stand_beside_the_paper(run: Path) -> None:
    shown = "\n".join(map(markdown, tables([audit_run(read_run(run))])))
    assert "| paper, 0.8B | 68.6 | 450 | 90.7 | 3.3 | 6.0 | 206 | 0.0 | 90.3 | 9.7 |" in shown
    assert "| paper, 0.8B | 1.2 | 1656 | 82.7 | 0.4 | 16.9 |  |" in shown
    for title in ("BCQ:", "NCQ:", "run: over training", "Groups", "Transfer"):
        assert f"### {title}" in shown


def test_a_run_without_logs_says_what_would_keep_them(tmp_path: Path) -> None:
    config = fake_config(tmp_path / "run", "run.steps=1", "run.save_rollouts=false")
    train(config, build=fake_build, quiet=True)
    with pytest.raises(RunError, match=r"run\.save_rollouts=true"):
        audit_run(read_run(tmp_path / "run"))
