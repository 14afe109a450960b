"""Returns of hard questions, by hand."""

from __future__ import annotations

import pytest

from tests.report.logs import group, log
from zppo.report.transfer import Return, follow, summarize


def plain(question: str, right: int):
    return group("plain", ["1"] * 4, [1] * right + [0] * (4 - right), question=question)


def test_a_hard_question_is_followed_to_its_next_visit_and_no_further() -> None:
    visit = follow(0.5)
    assert visit(log(1, plain("a", 0), plain("b", 2), group("bcq", ["1"], [1], question="a"))) == []
    # b was not hard, so its return does not count; a was, and got a BCQ prompt.
    assert visit(log(3, plain("a", 1), plain("b", 1))) == [Return("a", ("bcq",), 0.0, 0.25, 2)]
    # The second return of a starts where the first ended, without a prompt of its own.
    assert visit(log(4, plain("a", 4))) == [Return("a", (), 0.25, 1.0, 1)]
    assert visit(log(5, plain("a", 0))) == []


def test_an_injected_rollout_is_not_the_students() -> None:
    visit = follow(0.5)
    visit(log(1, group("plain", ["1"] * 2, [1, 0], injected=0)))
    assert visit(log(2, group("plain", ["1"] * 2, [1, 1])))[0].before == 0.0


def test_rows_compare_treatments_at_the_same_start_with_one_observation_a_question() -> None:
    returns = [
        Return("a", ("bcq", "ncq"), 0.0, 0.5, 2),
        Return("a", ("bcq", "ncq"), 0.0, 0.0, 4),
        Return("b", ("bcq", "ncq"), 0.0, 0.75, 3),
        Return("c", (), 0.0, 0.0, 1),
        Return("d", (), 0.25, 1.0, 1),
    ]
    treated, none, some = summarize(returns, 0.5)
    assert (treated.treatment, treated.all_wrong) == ("bcq+ncq", True)
    assert (treated.returns, treated.questions, treated.steps) == (3, 2, 3.0)
    assert treated.after == pytest.approx(1.25 / 3)
    # Means of questions 0.25 and 0.75: standard deviation sqrt(0.125), standard error 0.25.
    assert treated.margin == pytest.approx(1.96 * 0.25)
    assert treated.solved == pytest.approx(2 / 3)
    assert (none.treatment, none.after, none.margin) == ("none", 0.0, None)
    assert (some.all_wrong, some.solved) == (False, 1.0)
