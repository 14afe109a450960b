"""A transformers model of this process as the teacher."""

from __future__ import annotations

import asyncio
import copy
import threading
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests import tiny
from tests.e2e.test_methods import LuckyGrader, make_parts, run
from zppo.config import LocalTeacherConfig
from zppo.errors import ModelError
from zppo.rewards import Grade
from zppo.runs.build import check_media
from zppo.student.sampler import Sampling, sample_groups
from zppo.teacher.base import TeacherRequest
from zppo.teacher.local import LocalTeacher
from zppo.teacher.several import SeveralTeachers
from zppo.types import GroupKind, Media, Prompt, Question, RolloutStatus


def teacher(kind: tiny.Kind = "vlm", **options) -> LocalTeacher:
    options = {"max_response_tokens": 12} | options
    return LocalTeacher(
        tiny.loaded(kind, seed=3), tiny.config(), LocalTeacherConfig(model="tiny", **options)
    )


def asked(kind: tiny.Kind = "vlm") -> list[tuple[Question, str]]:
    return [(p.question, p.text) for p in tiny.prompts(kind)]


def request(text: str, max_tokens: int = 12) -> TeacherRequest:
    return TeacherRequest("compress", Question("q", "1?", "1"), text, "source", max_tokens)


@pytest.mark.parametrize("kind", ["llama", "vlm"])
def test_n_samples_of_each_question_decided_by_the_seed(kind):
    one, again, other = (
        asyncio.run(teacher(kind).sample(asked(kind), 4, seed)) for seed in ((0, 1), (0, 1), (0, 2))
    )
    assert [len(texts) for texts in one] == [4, 4, 4]
    assert len(set(one[0])) > 1
    assert one == again != other


def test_small_batches_answer_every_question_in_order():
    """Greedily, so that the split cannot show."""
    whole, split = (
        asyncio.run(teacher(temperature=1e-4, sampler_batch_tokens=b).sample(asked(), 2, (0,)))
        for b in (100_000, 1)
    )
    assert whole == split and len({texts[0] for texts in whole}) == 3


def test_text_tasks_are_answered_greedily():
    one = teacher()
    requests = [request("Shorten this: 1 + 1"), request("And that, please: 2 + 2 + 2")]
    replies = asyncio.run(one.complete(requests, (0,)))
    assert replies == asyncio.run(one.complete(requests, (9,)))
    for r, reply in zip(requests, replies, strict=True):
        encoded = one.encoder.encode(Prompt(r.question, GroupKind.PLAIN, r.prompt))
        group = sample_groups(
            one.loaded.model.base_model,
            one.loaded.model.get_output_embeddings(),
            one.encoder.collate([encoded], "cpu"),
            1,
            Sampling(temperature=0.0, max_tokens=12),
            one.loaded.stop_ids,
            one.encoder.placeholder_ids,
            [(0,)],
        )[0]
        assert reply == tiny.tokenizer().decode(group.token_ids[0], skip_special_tokens=True)
    assert asyncio.run(one.complete([], (0,))) == []
    assert asyncio.run(one.sample([], 4, (0,))) == []


def test_it_is_frozen_and_keeps_to_the_pixel_bounds_of_the_data():
    one = teacher()
    assert not any(p.requires_grad for p in one.loaded.model.parameters())
    data = tiny.config().data
    assert one.encoder.image_processor.size["longest_edge"] == data.max_pixels


def test_a_text_teacher_says_what_it_cannot_read():
    question = Question("a picture", "1?", "1", media=(Media("image", (tiny.png(32, 32),)),))
    with pytest.raises(ModelError, match="`a picture` has images, but `llama` is a text model"):
        asyncio.run(teacher("llama").sample([(question, "1?")], 1, (0,)))


def test_a_start_is_refused_where_the_teacher_could_not_see():
    question = Question("a picture", "1?", "1", media=(Media("image", (tiny.png(32, 32),)),))
    text, sees = Question("q", "1?", "1"), teacher("vlm")
    blind = SeveralTeachers([sees, teacher("llama")])
    config = tiny.config()
    with pytest.raises(ModelError, match="`a picture` has images, but `llama` is a text model"):
        check_media(config, blind, [text, question])
    check_media(config, sees, [text, question])
    check_media(config, blind, [text])
    only_compresses = config.model_copy(update={"method": "grpo+replay+ncq"})
    check_media(only_compresses, blind, [question])


def test_tasks_have_template_arguments_of_their_own():
    """A template that thinks by default: `enable_thinking` is on for answers, off for tasks."""
    loaded = tiny.loaded("llama")
    thinking = copy.copy(loaded.tokenizer)
    thinking.chat_template = (
        "{{ messages[0].content }}{% if enable_thinking is not defined or enable_thinking %}"
        "<think>{% endif %}{% if style is defined %}{{ style }}{% endif %}"
    )
    options = LocalTeacherConfig(
        model="tiny",
        template_arguments={"style": "!"},
        task_template_arguments={"enable_thinking": False},
    )
    one = LocalTeacher(replace(loaded, tokenizer=thinking), tiny.config(), options)
    assert one.encoder._render("a") == "a<think>!" and one.task_encoder._render("a") == "a!"
    asked: list[object] = []

    def answer(encoder, prompts, n, sampling, seed):
        asked.append(encoder)
        return [["x"] * n for _ in prompts]

    one._answer = answer
    asyncio.run(one.complete([request("a")], (0,)))
    asyncio.run(one.sample([(Question("q", "a", "1"), "a")], 1, (0,)))
    assert asked == [one.task_encoder, one.encoder]
    with pytest.raises(ValidationError, match="cannot set tokenize"):
        LocalTeacherConfig(model="m", task_template_arguments={"tokenize": True})


def test_questions_asked_at_once_are_answered_one_after_another():
    one = teacher("llama")
    active: list[str] = []
    answer = one._answer

    def watched(*args):
        active.append(threading.current_thread().name)
        assert len(active) == 1
        try:
            return answer(*args)
        finally:
            active.pop()

    one._answer = watched

    async def both():
        return await asyncio.gather(
            *(one.sample(asked("llama"), 2, (0, chunk)) for chunk in range(3))
        )

    assert asyncio.run(both())[1] == asyncio.run(teacher("llama").sample(asked("llama"), 2, (0, 1)))


class KindGrader(LuckyGrader):
    """A random teacher never solves a puzzle; here half of its responses count as right."""

    async def grade(self, items):
        verdicts = await super().grade(items)
        return [
            verdict
            if len(response.token_ids)
            else Grade(len(response.text) % 2 == 0, RolloutStatus.GRADED, "7")
            for verdict, (_, response) in zip(verdicts, items, strict=True)
        ]


@pytest.mark.parametrize("compress", ["none", "teacher"])
def test_whole_steps_with_a_local_teacher(compress):
    parts = make_parts("zppo", f"algorithm.compress={compress}", "algorithm.candidate_max_tokens=8")
    parts = replace(parts, teacher=teacher(), grader=KindGrader())
    results, _ = run(parts, steps=2)
    metrics = results[-1].metrics
    assert metrics["teacher/questions"] > 0 and 0 < metrics["teacher/accuracy"] < 1
    assert all(len(t) == 4 for t in results[-1].teacher_rollouts.values())
    kinds = {g.kind for r in results for g in r.groups}
    if compress == "none":
        assert kinds == {GroupKind.PLAIN, GroupKind.BCQ, GroupKind.NCQ}
        return
    # A random model writes no <summary>; every prompt is left out and the reason recorded.
    assert kinds == {GroupKind.PLAIN}
    reasons = {x.skipped for r in results for x in r.reformulations}
    assert reasons <= {"compression failed", "no correct teacher rollout"} and reasons
