"""Worked solutions as a teacher, several teachers, and the account that is kept of all of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.e2e.test_methods import make_parts
from tests.runs.fakes import fake_config, questions
from zppo.algorithm.buffer import PromptReplayBuffer
from zppo.algorithm.step import training_step
from zppo.config import load_config
from zppo.errors import ConfigError, TeacherError
from zppo.lab import puzzles
from zppo.rewards import grade
from zppo.runs.build import build_teacher, check_teacher
from zppo.teacher.base import Teacher, TeacherRequest, close_teacher
from zppo.teacher.ledger import Ledger
from zppo.teacher.reference import ReferenceTeacher
from zppo.teacher.scripted import ScriptedTeacher
from zppo.teacher.several import SeveralTeachers
from zppo.types import GroupKind, Question

SUM = Question("q", "1 + 1?", "2")


class Fixed:
    """Answers `text`, or nothing, and remembers what it was asked."""

    def __init__(self, text: str | None = None, summary: str | None = None):
        self.text, self.summary = text, summary
        self.asked: list[str] = []
        self.closed = 0

    async def sample(self, prompts, n, seed):
        self.asked += [q.id for q, _ in prompts]
        return [[self.text] * n if self.text is not None else [] for _ in prompts]

    async def complete(self, requests, seed):
        return [self.summary for _ in requests]

    async def aclose(self):
        self.closed += 1


def one_step(teacher: Teacher, method="zppo", *overrides: str):
    parts = replace(make_parts(method, *overrides), teacher=teacher)
    new = puzzles.questions("train")[::150][:8]
    return asyncio.run(training_step(1, new, PromptReplayBuffer(20), parts))


# -- worked solutions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("1 + 1 = 2", "1 + 1 = 2\n\\boxed{2}"),
        ("so \\boxed{2}.", "so \\boxed{2}."),
        (" so \\boxed{3} ", "so \\boxed{3}"),
    ],
)
def test_a_solution_is_boxed_as_rewards_read_it(solution, expected):
    question = replace(SUM, reference=solution)
    ((text,),) = asyncio.run(ReferenceTeacher().sample([(question, "?")], 4, (0,)))
    assert text == expected
    assert grade(text, "2").correct == ("3" not in solution)


def test_a_row_without_a_solution_is_a_reason():
    teacher = ReferenceTeacher()
    for reference in (None, "  "):
        question = replace(SUM, reference=reference)
        assert asyncio.run(teacher.sample([(question, "?")], 4, (0,))) == [[]]
    assert [f.reason for f in teacher.drain_failures()] == ["no_reference"] * 2


def test_a_step_with_solutions_and_no_model():
    result = one_step(ReferenceTeacher(), "zppo", "algorithm.compress=none")
    assert {g.kind for g in result.groups} == {GroupKind.PLAIN, GroupKind.BCQ, GroupKind.NCQ}
    assert result.metrics["teacher/accuracy"] == 1.0 and not result.teacher_failures
    assert all(len(t) == 1 for t in result.teacher_rollouts.values())


def test_a_step_with_solutions_and_a_compressor():
    result = one_step(ReferenceTeacher(ScriptedTeacher()))
    assert {g.kind for g in result.groups} == {GroupKind.PLAIN, GroupKind.BCQ, GroupKind.NCQ}
    with pytest.raises(TeacherError, match=r"teacher\.compressor"):
        one_step(ReferenceTeacher())


def test_solutions_need_somebody_for_text_tasks():
    with pytest.raises(ConfigError, match=r"teacher\.compressor`, or algorithm\.compress=none"):
        load_config("lab", ["teacher={kind: reference}"])
    with pytest.raises(ConfigError, match="writes hints"):
        load_config("lab", ["teacher={kind: reference}", "method=grpo+replay+hint"])
    load_config("lab", ["teacher={kind: reference}", "method=grpo+replay+prefix"])
    load_config("lab", ["teacher={kind: reference, compressor: {kind: scripted}}"])


def test_solutions_must_be_in_the_data(tmp_path):
    config = fake_config(tmp_path, "teacher={kind: reference}", "algorithm.compress=none")
    with pytest.raises(
        TeacherError, match=r"no row of lab:train has one.*data\.columns\.reference"
    ):
        check_teacher(config, questions(3))
    check_teacher(config, [*questions(3), replace(SUM, reference="two")])


# -- several ---------------------------------------------------------------------------------------


def test_in_order_each_is_asked_what_is_left():
    """The second solves what the first got wrong, the third is not needed."""
    first, third = Fixed("\\boxed{no}", "x"), Fixed("\\boxed{no}")
    result = one_step(SeveralTeachers([first, ScriptedTeacher(0.0), third], for_tasks=[first]))
    hard = set(result.teacher_rollouts)
    assert set(first.asked) == hard and not third.asked
    for rollouts in result.teacher_rollouts.values():
        assert [(t.turn, t.correct) for t in rollouts] == [(0, False)] * 4 + [(1, True)] * 4
    assert result.metrics["teacher/solved_by_later"] == len(hard)


def test_the_second_is_not_asked_what_the_first_solved():
    second = Fixed("\\boxed{1}")
    result = one_step(SeveralTeachers([ScriptedTeacher(0.0), second]))
    assert not second.asked and "teacher/solved_by_later" not in result.metrics


def test_together_all_answer():
    result = one_step(SeveralTeachers([Fixed("\\boxed{no}"), ScriptedTeacher(0.0)], in_order=False))
    for rollouts in result.teacher_rollouts.values():
        assert [t.correct for t in rollouts] == [False] * 4 + [True] * 4


def test_text_tasks_fall_to_the_next():
    request = TeacherRequest("compress", SUM, "?", "x")
    several = SeveralTeachers([Fixed(), Fixed(summary="b"), Fixed(summary="c")])
    assert asyncio.run(several.complete([request, request], (0,))) == ["b", "b"]


def test_what_fails_is_counted_over_all_of_them():
    several = SeveralTeachers([Fixed(), ReferenceTeacher(Fixed()), Fixed("a")])
    ledger = Ledger(several)

    async def ask():
        for turn in ledger.turns:
            await turn.sample([(SUM, "?")], 4, (0,))
        await ledger.complete([TeacherRequest("compress", SUM, "?", "x")], (0,))

    asyncio.run(ask())
    account = ledger.close()
    assert (account.asked, account.unanswered) == (4, 3)
    assert account.reasons() == {"no_reference": 1, "no_reply": 1}
    assert account.metrics()["teacher/failed_share"] == 0.75


def test_all_are_closed():
    one, two = Fixed(), Fixed()
    asyncio.run(close_teacher(SeveralTeachers([one, ReferenceTeacher(two), ScriptedTeacher()])))
    asyncio.run(close_teacher(None))
    assert one.closed == two.closed == 1


def test_they_are_built_from_the_config():
    config = load_config(
        "lab",
        [
            "teacher={kind: several, teachers: [{kind: reference}, {kind: scripted}]}",
            "teacher.mode=together",
        ],
    )
    built = build_teacher(config)
    assert isinstance(built, SeveralTeachers) and not built.in_order
    assert [type(t) for t in built.teachers] == [ReferenceTeacher, ScriptedTeacher]
    assert [type(t) for t in built.for_tasks] == [ScriptedTeacher]


# -- the config ------------------------------------------------------------------------------------

ENDPOINT = "{url: 'http://h:1/v1', model: m}"


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("{kind: openai, endpoints: []}", "endpoints"),
        ("{kind: openai, endpoints: [{url: 'h:1', model: m}]}", "must look like http://"),
        ("{kind: openai, endpoints: [{url: 'http://h', modle: m}]}", "did you mean `model`"),
        (
            "{kind: several, teachers: [{kind: scripted}, {kind: openai, endpoint: []}]}",
            "did you mean `endpoints`",
        ),
        (f"{{kind: openai, endpoints: [{ENDPOINT}], extra_body: {{n: 2}}}}", "cannot set n"),
        ("{kind: several, teachers: [{kind: scripted}]}", "at least 2"),
        ("{kind: opnai}", "'local', 'openai', 'reference'"),
    ],
)
def test_mistakes_are_named(teacher, message):
    with pytest.raises(ConfigError, match=message):
        load_config("lab", [f"teacher={teacher}"])


@pytest.mark.parametrize(
    "endpoint",
    [
        "{url: 'http://me:sk-secret@h/v1', model: m}",
        "{url: 'http://h/v1?key=sk-secret', model: m}",
        "{url: 'http://h/v1', model: m, api_key_env: sk-secret}",
    ],
)
def test_a_key_in_the_config_is_refused_and_not_repeated(endpoint):
    with pytest.raises(ConfigError, match="environment variable") as error:
        load_config("lab", [f"teacher={{kind: openai, endpoints: [{endpoint}]}}"])
    assert "secret" not in str(error.value)
