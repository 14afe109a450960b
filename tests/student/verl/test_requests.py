"""Rollouts asked of servers: what is in a chunk, what a failure becomes, what a request says.
Without verl: the cluster is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import tiny
from zppo.config_verl import VerlConfig
from zppo.errors import EngineError
from zppo.student.sampler import Sampling
from zppo.student.verl.prompts import RequestedPrompt
from zppo.student.verl.relay import Relay
from zppo.student.verl.requests import Requests, sampling_params
from zppo.types import Response

TOKENIZER = tiny.loaded("llama").tokenizer


class Servers:
    """Answers with the prompt's tokens and how they were asked for; fails on order."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.now = self.most = 0
        self.failing: set[int] = set()
        self.error: Exception = ValueError("Traceback ...\nValueError: too long")

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


async def _answer(what: str, request: Any, timeout: float) -> Any:
    return await request


def ask(
    servers: Servers,
    prompts: int,
    n: int,
    seed: Sequence[int] = (0, 1),
    relays: int = 1,
    **settings: Any,
) -> list[dict[int, tuple[Response, ...]]]:
    options = VerlConfig(**settings)

    async def collect() -> list[dict[int, tuple[Response, ...]]]:
        in_flight = options.requests_in_flight // relays
        between = [
            Relay(servers, TOKENIZER, [9], options.request_timeout, in_flight, _answer)
            for _ in range(relays)
        ]
        requests = Requests(between, options, [9], [4])
        asked = [RequestedPrompt(np.array([i], dtype=np.int32)) for i in range(prompts)]
        return [chunk async for chunk in requests.answers(asked, n, Sampling(), seed)]

    return asyncio.run(collect())


def test_chunks_are_in_order_whoever_is_ready_first():
    chunks = ask(Servers(), prompts=5, n=2, relays=2, requests_in_flight=16)
    assert [list(chunk) for chunk in chunks] == [[0, 1], [2, 3], [4]]
    for chunk in chunks:
        for i, group in chunk.items():
            assert [r.token_ids.tolist() for r in group] == [[i, 9], [i, 9]]
            assert group[0].logprobs is not None and group[0].logprobs.dtype == np.float32


def test_a_response_is_decoded_behind_its_forced_prefix_and_says_whether_it_ended():
    ids = TOKENIZER("2 + 2", add_special_tokens=False)["input_ids"]
    prompt = RequestedPrompt(np.array(ids, dtype=np.int32), prefix_ids=(ids[0],))

    async def one(stop: list[int]) -> Response:
        [response] = await Relay(Servers(), TOKENIZER, stop, 1.0, 1, _answer).group(
            prompt, {}, [None]
        )
        return response

    response = asyncio.run(one([9]))
    assert response.text == TOKENIZER.decode([ids[0], *ids, 9], skip_special_tokens=True)
    assert response.finished
    assert not asyncio.run(one([3])).finished


def test_no_more_requests_in_flight_than_allowed():
    servers = Servers()
    ask(servers, prompts=8, n=2, requests_in_flight=3)
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
    servers = Servers()
    ask(servers, 1, 1, rollout="sglang")
    assert "seed" not in servers.asked[0]["sampling_params"]


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("Traceback ...\nValueError: too long"), "ValueError: too long"),
        (TimeoutError(), "no answer within 7 seconds"),
    ],
)
def test_a_failed_request_is_an_answer_without_tokens(error, said):
    servers = Servers()
    servers.failing, servers.error = {2}, error
    [chunk] = ask(servers, 2, 2, max_failed_rollout_share=0.5, request_timeout=7)
    [failed] = [r for group in chunk.values() for r in group if r.failure]
    assert failed.failure == said
    assert len(failed.token_ids) == 0 and failed.logprobs is None


def test_too_many_failures_stop_it_and_so_does_a_server_that_is_gone():
    servers = Servers()
    servers.failing = {1, 2}
    with pytest.raises(EngineError, match=r"2 of 4 rollouts failed .*: ValueError: too long"):
        ask(servers, 2, 2, max_failed_rollout_share=0.2)
    servers = Servers()
    servers.failing, servers.error = {1}, EngineError("gone")
    with pytest.raises(EngineError, match="gone"):
        ask(servers, 2, 2, max_failed_rollout_share=1.0)


def test_sampling_rules_are_said_in_the_words_of_vllm():
    rule = Sampling(temperature=0.6, top_p=0.95, top_k=20, presence_penalty=1.5, max_tokens=7)
    assert sampling_params(rule, [1, 2], [5]) == {
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
    }
    off = sampling_params(Sampling(), [1], [])
    assert off["top_k"] == -1 and "logit_bias" not in off
