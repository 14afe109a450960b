"""What the comparisons with peers rest on: equal lengths, the rewards of a job, ratios of pairs."""

from __future__ import annotations

import asyncio
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from zppo.student import sampler

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/peers"))
import zppo_worker
from lengths import Schedule, control_generate
from paired import Side, ratios, require_equal, run_pairs
from plan import Job, PromptRow, read_job, write_job
from prompts import of_length, stories

LENGTHS = [2, 3, 5, 7, 10, 13, 16, 16]  # the shares of 16 tokens

JOB = Job("m", "fp32", 1, (PromptRow("q", "t"),), 1, 8, 16, 0, 1, 1, 64, 8, 3, 1e-6, 0)

SIDE = Side(2.0, 1.0, 1.5, 0.5, 100.0, 50.0, 6.0, 300.0, {"x": "1"})


def test_our_sampler_gives_every_group_the_same_lengths(monkeypatch: pytest.MonkeyPatch):
    """Through the real sampler, whose rows leave when they have ended, in two batches."""
    student: Any = tiny.student(
        "llama", "rollout.max_response_tokens=16", "student.sampler_batch_tokens=2000"
    )
    monkeypatch.setattr(sampler, "_draw", sampler._draw)  # put back afterwards
    zppo_worker.control_lengths(16, student.loaded.stop_ids)

    async def rollout() -> dict[int, tuple[Any, ...]]:
        found: dict[int, tuple[Any, ...]] = {}
        async for chunk in student.rollout(tiny.prompts("llama"), 8, (0,)):
            found |= chunk
        return found

    groups = asyncio.run(rollout())
    assert len(groups) == 3
    for responses in groups.values():
        assert [len(r.token_ids) for r in responses] == LENGTHS
        assert [r.finished for r in responses] == 6 * [True] + 2 * [False]


def test_generate_gets_the_same_lengths(monkeypatch: pytest.MonkeyPatch):
    """As TRL's `generate` runs: every row until the end, one draw a token."""
    monkeypatch.setattr(torch, "multinomial", torch.multinomial)  # put back afterwards
    loaded = tiny.loaded("llama")
    stop = loaded.tokenizer.eos_token_id
    control_generate(Schedule(16, [stop]))
    ids = torch.tensor([[11, 12, 13], [14, 15, 16]])
    out = loaded.model.generate(
        input_ids=ids, do_sample=True, max_new_tokens=16, num_return_sequences=8, eos_token_id=stop
    )[:, 3:]
    ended = [row.index(stop) + 1 if stop in row else 16 for row in out.tolist()]
    assert ended == 2 * LENGTHS


def test_rows_that_leave_too_early_are_noticed():
    schedule = Schedule(16, [1])
    schedule.end(torch.zeros(8, dtype=torch.long))
    with pytest.raises(RuntimeError, match="7 rows"):
        schedule.end(torch.zeros(7, dtype=torch.long))


def test_a_third_of_the_groups_is_trivial():
    rewards = [[JOB.reward(prompt, row) for row in range(8)] for prompt in range(6)]
    assert [sum(group) for group in rewards] == [4, 4, 0, 4, 4, 0]
    mixed = replace(JOB, trivial_every=0)
    assert all(sum(mixed.reward(p, row) for row in range(8)) == 4 for p in range(6))


def test_jobs_survive_the_way_to_a_worker(tmp_path: Path):
    write_job(JOB, tmp_path / "job.json")
    assert read_job(tmp_path / "job.json") == JOB


def test_prompts_have_the_length_asked_for():
    """Within a word, and with the last question whole."""
    tokenizer, templates = tiny.tokenizer(), zppo_worker.Templates.default()
    row, length = of_length(stories(0), 400, tokenizer, templates)
    assert 380 < length <= 400 and row.question in row.turn
    whole = list(itertools.islice(stories(0), 50))
    assert any(row.question.startswith(q) or row.question.endswith(q) for q in whole)


def test_pairs_alternate_and_ratios_are_of_pairs():
    order: list[str] = []

    def side(name: str, seconds: float) -> Side:
        order.append(name)
        return replace(SIDE, seconds=seconds)

    pairs = run_pairs(3, lambda n: side("us", n + 1.0), lambda n: side("them", (n + 1.0) * (n + 2)))
    assert order == ["us", "them", "them", "us", "us", "them"]
    assert ratios(pairs, lambda s: s.seconds) == "3.00x (2.00 to 4.00)"


def test_sides_that_did_something_else_are_refused():
    require_equal([(SIDE, replace(SIDE, seconds=9.0))], "tokens")
    with pytest.raises(SystemExit, match=r"tokens: 100.0, 90.0"):
        require_equal([(SIDE, replace(SIDE, tokens=90.0))], "tokens")
