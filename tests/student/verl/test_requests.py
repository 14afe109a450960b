"""Rollouts asked of servers: what is in a chunk, what a failure becomes, what a request says.
Without verl: the cluster is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zppo.config_verl import VerlConfig
from zppo.errors import EngineError
from zppo.student.sampler import Sampling
from zppo.student.verl.requests import Answer, RequestedPrompt, Requests, sampling_params


class Servers:
    """Answers with the prompt's tokens and how they were asked for; fails on order."""

    def __init__(self, **options: Any) -> None:
        self.options = VerlConfig(**options)
        self.client = self
        self.asked: list[dict[str, Any]] = []
        self.now = self.most = 0
        self.failing: set[int] = set()
        self.error: Exception = ValueError("Traceback ...\nValueError: too long")

    async def answer(self, what: str, request: Any) -> Any:
        return await request

    async def generate(self, **asked: Any) -> Any:
        self.asked.append(asked)
        number = len(self.asked)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001 * (number % 3))
        self.now -= 1
        if number in self.failing:
            raise self.error
        ids = [*asked["prompt_ids"], 9]
        return SimpleNamespace(token_ids=ids, log_probs=[-1.0] * len(ids), stop_reason="completed")


def ask(servers: Servers, prompts: int, n: int, seed: Sequence[int] = (0, 1)) -> list[Any]:
    async def collect() -> list[dict[int, list[Answer]]]:
        requests = Requests(servers, [9], [4])  # pyright: ignore[reportArgumentType]
        asked = [RequestedPrompt([i]) for i in range(prompts)]
        return [chunk async for chunk in requests.answers(asked, n, Sampling(), seed)]

    return asyncio.run(collect())


def test_chunks_are_in_order_whoever_is_ready_first():
    servers = Servers(requests_in_flight=16)
    chunks = ask(servers, prompts=5, n=2)
    assert [list(chunk) for chunk in chunks] == [[0, 1], [2, 3], [4]]
    for chunk in chunks:
        for i, answers in chunk.items():
            assert [a.token_ids.tolist() for a in answers] == [[i, 9], [i, 9]]
            assert answers[0].logprobs is not None and answers[0].logprobs.dtype == np.float32


def test_no_more_requests_in_flight_than_allowed():
    servers = Servers(requests_in_flight=3)
    ask(servers, prompts=8, n=2)
    assert servers.most == 3
    assert len(servers.asked) == 16


def test_every_request_has_a_seed_of_its_own_and_the_same_in_every_run():
    seeds = []
    for seed in ((0, 1), (0, 1), (0, 2)):
        servers = Servers()
        ask(servers, 3, 2, seed)
        seeds.append(sorted(a["sampling_params"]["seed"] for a in servers.asked))
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 6
    assert not set(seeds[0]) & set(seeds[2])


def test_a_server_that_takes_no_seed_gets_none():
    servers = Servers(rollout="sglang")
    ask(servers, 1, 1)
    assert "seed" not in servers.asked[0]["sampling_params"]


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("Traceback ...\nValueError: too long"), "ValueError: too long"),
        (TimeoutError(), "no answer within 7 seconds"),
    ],
)
def test_a_failed_request_is_an_answer_without_tokens(error, said):
    servers = Servers(max_failed_rollout_share=0.5, request_timeout=7)
    servers.failing, servers.error = {2}, error
    [chunk] = ask(servers, 2, 2)
    answers = [a for some in chunk.values() for a in some]
    [failed] = [a for a in answers if a.failure]
    assert failed.failure == said
    assert len(failed.token_ids) == 0 and failed.logprobs is None


def test_too_many_failures_stop_it_and_so_does_a_server_that_is_gone():
    servers = Servers(max_failed_rollout_share=0.2)
    servers.failing = {1, 2}
    with pytest.raises(EngineError, match=r"2 of 4 rollouts failed .*: ValueError: too long"):
        ask(servers, 2, 2)
    servers = Servers(max_failed_rollout_share=1.0)
    servers.failing, servers.error = {1}, EngineError("gone")
    with pytest.raises(EngineError, match="gone"):
        ask(servers, 2, 2)


def test_sampling_rules_are_said_in_the_words_of_vllm():
    rule = Sampling(temperature=0.6, top_p=0.95, top_k=20, presence_penalty=1.5, max_tokens=7)
    assert sampling_params(rule, [1, 2], [5], 3) == {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "min_p": 0.0,
        "presence_penalty": 1.5,
        "repetition_penalty": 1.0,
        "max_tokens": 7,
        "stop_token_ids": [1, 2],
        "logprobs": True,
        "logit_bias": {5: -100.0},
        "seed": 3,
    }
    off = sampling_params(Sampling(), [1], [], None)
    assert off["top_k"] == -1 and "seed" not in off and "logit_bias" not in off
