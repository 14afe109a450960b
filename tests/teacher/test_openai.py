"""A teacher over the network: what it asks, and what becomes of every way to fail."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os

import pytest
from PIL import Image

from tests import tiny
from tests.teacher.server import Server
from zppo.config import DataConfig, OpenAITeacherConfig
from zppo.errors import TeacherError
from zppo.teacher.base import TeacherRequest
from zppo.teacher.openai import OpenAITeacher
from zppo.teacher.pool import BreakerRules
from zppo.teacher.retry import Patience
from zppo.types import Media, Question

HASTE = Patience(base=0.005, longest=0.02, longest_asked=1.0)
RULES = BreakerRules(threshold=5, cooldown=0.02, longest=0.1)
SUM = Question("q", "1 + 1?", "2")


def teacher(*servers: Server, rules: BreakerRules = RULES, **options) -> OpenAITeacher:
    concurrency = options.pop("concurrency", 8)
    endpoints = [{"url": s.url, "model": "m", "concurrency": concurrency} for s in servers]
    settings = {"endpoints": endpoints, "timeout_s": 2.0, "max_outage_s": 1.0} | options
    return OpenAITeacher(OpenAITeacherConfig.model_validate(settings), DataConfig(), HASTE, rules)


def run(one: OpenAITeacher, questions=(SUM,), n=1, seed=(0, 1)):
    """Answers and the reasons of what is missing; the connections closed."""

    async def ask():
        try:
            return await one.sample([(q, q.text) for q in questions], n, seed)
        finally:
            await one.aclose()

    answers = asyncio.run(ask())
    return answers, [(f.reason, f.count) for f in one.drain_failures()]


def complete(one: OpenAITeacher, *requests: TeacherRequest):
    async def ask():
        try:
            return await one.complete(requests, (0,))
        finally:
            await one.aclose()

    return asyncio.run(ask())


def task(prompt: str = "shorten", **options) -> TeacherRequest:
    return TeacherRequest("compress", SUM, prompt, "source", **options)


def many(n: int) -> list[Question]:
    return [Question(f"q{i}", f"{i} + 1?", str(i + 1)) for i in range(n)]


# -- what is asked -------------------------------------------------------------------------------


def test_one_request_holds_all_samples_and_the_settings():
    with Server() as server:
        answers, failed = run(teacher(server, top_p=0.9, extra_body={"top_k": 5}), n=4)
    assert [len(texts) for texts in answers] == [4] and not failed
    (seen,) = server.seen
    assert seen.body.pop("seed") >= 0
    assert seen.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "1 + 1?"}],
        "max_tokens": 12_288,
        "n": 4,
        "temperature": 1.0,
        "top_p": 0.9,
        "top_k": 5,
    }


def test_seeds_follow_from_step_question_and_sample():
    def seeds(seed):
        with Server(default="one") as server:
            run(teacher(server), many(2), n=3, seed=seed)
        return sorted(s.body["seed"] for s in server.seen)

    one = seeds((0, 1))
    assert one == seeds((0, 1)) and len(set(one)) == 6
    assert not set(one) & set(seeds((0, 2)))


def test_fields_that_a_vendor_refuses_can_be_left_out():
    with Server() as server:
        run(
            teacher(
                server,
                temperature=None,
                top_p=None,
                send_seed=False,
                token_limit_field="max_completion_tokens",
            )
        )
    assert set(server.seen[0].body) == {"model", "messages", "max_completion_tokens"}


def test_text_tasks_have_their_own_cap_and_temperature():
    with Server(answer=lambda body, k: body["messages"][0]["content"]) as server:
        one = teacher(server, task_extra_body={"think": False})
        replies = complete(one, task("a"), task("b", max_tokens=7, temperature=0.7))
    assert replies == ["a", "b"]
    bodies = {s.text: s.body for s in server.seen}
    assert bodies["a"]["temperature"] == 0.0 and bodies["a"]["max_tokens"] == 512
    assert bodies["b"]["temperature"] == 0.7 and bodies["b"]["max_tokens"] == 7
    assert bodies["a"]["think"] is False and bodies["a"]["seed"] != bodies["b"]["seed"]


def test_images_and_frames_travel_as_data_uris_before_the_text():
    image = Media("image", (tiny.png(400, 100),))
    video = Media("video", tuple(tiny.png(32, 16, s) for s in range(6)), fps=2.0)
    question = Question("q", "?", "1", media=(image, video))
    with Server() as server:
        run(teacher(server, max_pixels=10_000, max_frames=4), [question])
    *media, text = server.seen[0].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "?"}
    images = [p["image_url"]["url"] for p in media if p["type"] == "image_url"]
    assert len(images) == 1 + 4
    head, data = images[0].split(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (200, 50)
    assert any("0.0," in p.get("text", "") for p in media)


def test_media_that_cannot_be_read_are_a_reason():
    question = Question("q", "?", "1", media=(Media("image", ("/no/such.png",)),))
    with Server() as server:
        answers, failed = run(teacher(server), [question, SUM], n=2)
    assert [len(a) for a in answers] == [0, 2] and failed == [("bad_media", 2)]


def test_thinking_that_comes_apart_is_part_of_the_trace():
    from zppo.teacher.chat import read_reply

    message = {"reasoning_content": "hm", "content": "\\boxed{1}"}
    body = json.dumps({"choices": [{"message": message}]}).encode()
    assert read_reply(body, 10, None)[0] == ["<think>hm</think>\n\\boxed{1}"]


# -- n ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["one", "400-n"])
def test_a_server_that_ignores_or_refuses_n_is_remembered(behaviour):
    with Server(default=behaviour) as server:
        one = teacher(server)
        for _ in range(2):
            answers, failed = run(one, n=4)
            assert [len(texts) for texts in answers] == [4] and not failed
    asked = [s.body.get("n", 1) for s in server.seen]
    assert asked[0] == 4 and asked.count(4) == 1
    assert len(asked) == (8 if behaviour == "one" else 9)


SCHEMA = {"type": "object"}


def test_a_schema_is_sent_and_left_out_where_it_is_refused():
    with Server() as server:
        complete(teacher(server), task(schema=SCHEMA))
    shape = {"name": "compress", "strict": True, "schema": SCHEMA}
    assert server.seen[0].body["response_format"] == {"type": "json_schema", "json_schema": shape}
    with Server(default="400-schema") as server:
        one = teacher(server)
        for _ in range(2):
            assert complete(one, task(schema=SCHEMA)) != [None]
    assert ["response_format" in s.body for s in server.seen] == [True, False, False]
    assert not one.endpoints[0].takes_schema and one.drain_failures() == []


def test_what_is_refused_with_and_without_a_schema_says_nothing_about_schemas():
    with Server(default="400") as server:
        one = teacher(server)
        assert complete(one, task(schema=SCHEMA)) == [None]
    assert len(server.seen) == 2 and one.endpoints[0].takes_schema
    assert [f.reason for f in one.drain_failures()] == ["http_400"]


def test_each_server_is_remembered_by_itself():
    with Server(default="one") as poor, Server() as good:
        one = teacher(poor, good, concurrency=1)
        answers, _ = run(one, many(12), n=3)
        answers += run(one, many(12), n=3)[0]
    assert all(len(texts) == 3 for texts in answers)
    assert {e.config.url: e.multiple for e in one.endpoints} == {poor.url: False, good.url: True}


def test_missing_samples_are_completed_or_explained():
    with Server(default="one") as server:
        server.orders = ["one", "400"]
        answers, failed = run(teacher(server, concurrency=1), n=3)
    assert len(answers[0]) == 2 and failed == [("http_400", 1)]


# -- failures --------------------------------------------------------------------------------------

PASSING = [
    "429",
    "429-after",
    "500",
    "503",
    "408",
    "half",
    "junk",
    "list",
    "null",
    "empty",
    "blank",
    "reset",
    "hang",
]


@pytest.mark.parametrize("behaviour", PASSING)
def test_what_passes_is_tried_again(behaviour):
    with Server() as server:
        server.orders = [behaviour, behaviour]
        answers, failed = run(teacher(server, timeout_s=0.3), n=2)
    assert len(answers[0]) == 2 and not failed
    assert len(server.seen) == 3


REASONS = {
    "429": "http_429",
    "500": "http_500",
    "401": "http_401",
    "half": "connection",
    "reset": "connection",
    "junk": "malformed",
    "list": "malformed",
    "null": "empty",
    "empty": "empty",
    "blank": "empty",
    "hang": "timeout",
    "endless": "too_large",
    "endless-500": "http_500",
}


@pytest.mark.parametrize(("behaviour", "reason"), REASONS.items())
def test_what_stays_has_its_reason(behaviour, reason):
    with Server(default=behaviour) as server:
        one = teacher(server, timeout_s=0.2, max_attempts=3)
        answers, failed = run(one, n=2)
        assert answers == [[]] and failed == [(reason, 2)]
        assert complete(one, task()) == [None]
    assert [f.reason for f in one.drain_failures()] == [reason]
    assert one.drain_failures() == []


def test_a_request_that_the_server_refuses_is_not_repeated():
    with Server(default="413") as server:
        _, failed = run(teacher(server))
    assert failed == [("http_413", 1)] and len(server.seen) == 1


def test_a_reply_beyond_the_cap_is_cut():
    with Server(default="huge") as server:
        (reply,) = complete(teacher(server), task(max_tokens=50))
    assert reply == "x" * 500


@pytest.mark.parametrize("behaviour", ["endless", "endless-500"])
def test_no_more_is_read_than_the_cap_allows(behaviour):
    """A megabyte beside what 50 tokens may take; the socket's buffers come on top."""
    with Server(default=behaviour) as server:
        assert complete(teacher(server, max_attempts=1), task(max_tokens=50)) == [None]
    assert 2**20 < server.sent < 12 * 2**20


def test_a_large_cap_allows_a_large_reply():
    text = "\u4e2d" * 400_000  # 2.4 MB of JSON
    with Server(answer=lambda body, k: text) as server:
        answers, failed = run(teacher(server, max_response_tokens=100_000), n=2)
    assert [len(t) for t in answers[0]] == [400_000, 400_000] and not failed


def test_retry_after_is_honoured():
    with Server() as server:
        server.orders = ["429-after"]
        run(teacher(server))
    first, second = server.seen
    assert second.at - first.at >= 0.2


def test_another_server_is_tried_after_a_failure():
    with Server(default="500") as bad, Server() as good:
        answers, failed = run(teacher(bad, good), many(20), n=2)
    assert all(len(texts) == 2 for texts in answers) and not failed
    assert len(bad.seen) <= 20


def test_a_dead_server_ends_in_a_reason_soon():
    with Server() as server:
        url = server.url
    settings = {"endpoints": [{"url": url, "model": "m"}], "max_outage_s": 0.2}
    one = OpenAITeacher(OpenAITeacherConfig.model_validate(settings), DataConfig(), HASTE, RULES)
    answers, failed = run(one, many(30), n=2)
    assert not any(answers)
    assert len(failed) == 30 and {r for r, _ in failed} <= {"connection", "no_endpoint"}


def test_a_server_that_comes_back_is_used_again():
    with Server(default="500") as server:
        one = teacher(server, max_outage_s=0.0)
        _, failed = run(one, many(20))
        assert len(failed) == 20 and one.endpoints[0].is_open
        server.default = "ok"
        asyncio.run(asyncio.sleep(0.15))
        answers, failed = run(one, many(20))
    assert sum(map(len, answers)) + len(failed) == 20
    assert answers[0] and not one.endpoints[0].is_open


def test_cancelling_returns_every_lease():
    async def main():
        calls = asyncio.create_task(one.sample([(q, q.text) for q in many(50)], 2, (0,)))
        await asyncio.sleep(0.2)
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
        assert one.endpoints[0].active == 0
        server.default = "ok"
        answers = await one.sample([(SUM, "?")], 1, (0,))
        await one.aclose()
        assert len(asyncio.all_tasks()) == 1
        return answers

    with Server(default="hang") as server:
        one = teacher(server)
        assert len(asyncio.run(main())[0]) == 1


# -- limits ----------------------------------------------------------------------------------------


def test_no_server_gets_more_than_its_limit():
    with Server(latency=0.01) as small, Server(latency=0.01) as large:
        settings = {
            "endpoints": [
                {"url": small.url, "model": "m", "concurrency": 2},
                {"url": large.url, "model": "m", "concurrency": 6},
            ]
        }
        one = OpenAITeacher(OpenAITeacherConfig.model_validate(settings), DataConfig())
        run(one, many(80))
    assert small.most_at_once == 2 and large.most_at_once == 6
    assert len(small.seen) + len(large.seen) == 80
    assert len(large.seen) > 1.5 * len(small.seen)


def test_a_teacher_serves_one_event_loop_after_another():
    before = len(os.listdir("/proc/self/fd"))
    with Server() as server:
        one = teacher(server)
        for _ in range(3):
            assert asyncio.run(one.sample([(SUM, "?")], 1, (0,)))[0]  # not closed
        asyncio.run(one.aclose())
        assert run(one)[0][0]
    import gc

    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


# -- keys and the check ----------------------------------------------------------------------------


def keyed(server: Server, **options) -> OpenAITeacherConfig:
    endpoint = {"url": server.url, "model": "m", "api_key_env": "ZPPO_TEST_KEY"} | options
    return OpenAITeacherConfig.model_validate({"endpoints": [endpoint]})


def test_the_key_comes_from_the_environment_and_no_other_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    monkeypatch.setenv("ZPPO_TEST_KEY", "sk-secret-123")
    with Server() as server:
        run(OpenAITeacher(keyed(server), DataConfig()))
        run(teacher(server))
    assert [s.headers["authorization"] for s in server.seen] == [
        "Bearer sk-secret-123",
        "Bearer none",
    ]
    assert not any("sk-vendor" in str(s.headers) for s in server.seen)


def test_a_missing_key_is_named_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("ZPPO_TEST_KEY", raising=False)
    with Server() as server, pytest.raises(TeacherError, match="ZPPO_TEST_KEY is not set"):
        OpenAITeacher(keyed(server), DataConfig())


def test_check_says_what_a_server_refuses_without_the_key(monkeypatch):
    monkeypatch.setenv("ZPPO_TEST_KEY", "sk-secret-123")
    with Server(default="echo") as server:
        one = OpenAITeacher(keyed(server), DataConfig())
        with pytest.raises(TeacherError, match="Is the key in ZPPO_TEST_KEY right") as error:
            asyncio.run(one.check())
    assert "sk-secret" not in str(error.value) and "bad key" in str(error.value)


@pytest.mark.parametrize(
    ("behaviours", "message"),
    [
        (["ok", "ok"], None),
        (["ok", "500"], None),
        (["blank", "reset"], None),
        (["500", "reset"], "connection"),
        (["ok", "404"], "Is the model's name right"),
        (["ok", "400"], "temperature=null"),
    ],
)
def test_check_needs_one_server_and_no_refusal(behaviours, message):
    with Server(default=behaviours[0]) as a, Server(default=behaviours[1]) as b:
        one = teacher(a, b)
        if message is None:
            asyncio.run(one.check())
            return
        with pytest.raises(TeacherError, match=message):
            asyncio.run(one.check())
