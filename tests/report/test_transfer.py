"""Returns of hard questions, by hand."""

from __future__ import annotations

import pytest

from tests.report.logs import group, log
from zppo.report.reading import SkippedRow, StepLog
from zppo.report.transfer import Contrast, Return, contrast, follow, summarize


def plain(question: str, right: int):
    return group("plain", ["1"] * 4, [1] * right + [0] * (4 - right), question=question)


def test_a_hard_question_is_followed_to_its_next_visit_and_no_further() -> None:
    visit = follow(0.5)
    assert visit(log(1, plain("a", 0), plain("b", 2), group("bcq", ["1"], [1], question="a"))) == []
    # b was not hard, so its return does not count; a was, and got a BCQ prompt.
    assert visit(log(3, plain("a", 1), plain("b", 1))) == [
        Return("a", 1, 2, 0.0, 0.25, ("bcq",), taken=True)
    ]
    # The second return of a starts where the first ended, without a prompt of its own.
    assert visit(log(4, plain("a", 4))) == [Return("a", 3, 1, 0.25, 1.0)]
    assert visit(log(5, plain("a", 0))) == []


def test_an_injected_rollout_is_not_the_students() -> None:
    visit = follow(0.5)
    visit(log(1, group("plain", ["1"] * 2, [1, 0], injected=0)))
    assert visit(log(2, group("plain", ["1"] * 2, [1, 1])))[0].before == 0.0


def test_rows_compare_treatments_at_the_same_start_with_one_observation_a_question() -> None:
    both = ("bcq", "ncq")
    returns = [
        Return("a", 1, 2, 0.0, 0.5, both),
        Return("a", 3, 4, 0.0, 0.0, both),
        Return("b", 1, 3, 0.0, 0.75, both),
        Return("c", 1, 1, 0.0, 0.0),
        Return("d", 1, 1, 0.25, 1.0),
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


def test_a_question_whose_prompts_could_not_be_built_was_taken_all_the_same() -> None:
    visit = follow(0.5)
    skipped = SkippedRow("a", "bcq", "no correct teacher rollout", ())
    visit(StepLog(1, (plain("a", 0),), (skipped,)))
    (found,) = visit(log(2, plain("a", 1)))
    assert found.taken and found.kinds == ()


def one(step: int, after: float, taken: bool, before: float = 0.0) -> Return:
    return Return("q", step, 1, before, after, (), taken)


def test_the_contrast_compares_within_steps() -> None:
    """Step 1: left out 0 and 1/4, taken 1/2: +3/8. Step 2: left out 0, taken 1 and 1/2: +3/4. Both
    weigh 2 * 1 / 3. Squares about the means 0.03125 + 0.125, about the difference
    2/3 * 2 * 0.1875^2 = 0.046875; three degrees of freedom. Steps 3 and 4 compare nothing."""
    returns = [
        *(one(1, 0.0, False), one(1, 0.25, False), one(1, 0.5, True)),
        *(one(2, 0.0, False), one(2, 1.0, True), one(2, 0.5, True)),
        *(one(3, 1.0, True), one(3, 0.0, False, before=0.25), one(4, 0.0, False)),
    ]
    found = contrast(returns)
    assert found is not None
    assert (found.steps, found.taken, found.others) == (2, 3, 3)
    assert found.difference == pytest.approx(0.5625)
    assert found.margin == pytest.approx(1.96 * (0.203125 / 3 / (4 / 3)) ** 0.5)


def test_no_contrast_without_both_sorts_in_a_step() -> None:
    assert contrast([one(1, 1.0, True), one(2, 0.0, False)]) is None
    assert contrast([one(1, 1.0, True), one(1, 0.0, False)]) is None  # no spread to be seen


def test_a_level_that_differs_between_steps_does_not_matter() -> None:
    returns = [one(s, 0.1 * s + 0.2 * t, t) for s in range(1, 5) for t in (False, True)]
    assert contrast(returns) == Contrast(4, 4, 4, pytest.approx(0.2), pytest.approx(0.0, abs=1e-6))
