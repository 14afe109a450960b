"""The pool of grading processes: deadlines, memory, deaths, threads, event loops, the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.rewards.pairs import DIFFERENT, SAME
from zppo.errors import RunError
from zppo.rewards import Grade, RuleGrader, WorkerPool
from zppo.rewards.workers import Outcome, Task
from zppo.types import Question, Response, RolloutStatus

BAD = "tests.rewards.bad_rules:rule"
PAIRS = [p for table in (SAME, DIFFERENT) for pairs in table.values() for p in pairs]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool() as pool:
        yield pool


@pytest.fixture(scope="module")
def bad() -> Iterator[WorkerPool]:
    with WorkerPool(deadline_s=1.0, memory_mb=512, rule=BAD) as pool:
        yield pool


def task(answer: str, gold: str = "5") -> Task:
    return (answer, gold, None, "robust")


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_pool_says_what_the_rule_says(pool: WorkerPool) -> None:
    tasks: list[Task] = [(answer, gold, None, "robust") for gold, answer in PAIRS]
    expected = asyncio.run(
        RuleGrader().grade([(Question("q", "?", g), text(f"\\boxed{{{a}}}")) for g, a in PAIRS])
    )
    outcomes = pool.grade(tasks)
    same = sum(map(len, SAME.values()))
    assert outcomes[:same] == [Outcome.RIGHT] * same
    assert outcomes[same:] == [Outcome.WRONG] * (len(PAIRS) - same)
    assert [o is Outcome.RIGHT for o in outcomes] == [v.correct for v in expected]


def test_options_mode_and_any_character_reach_the_rule(pool: WorkerPool) -> None:
    assert pool.grade(
        [
            ("B", "blue", ("red", "blue"), "robust"),
            ("B", "blue", ("red", "blue"), "paper"),
            ("5 cm", "5", None, "robust"),
            ("5 cm", "5", None, "paper"),
            ("\ud800\x00\n½", "½", None, "robust"),
        ]
    ) == [Outcome.RIGHT, Outcome.WRONG, Outcome.RIGHT, Outcome.WRONG, Outcome.WRONG]


def test_no_process_before_it_is_needed() -> None:
    with WorkerPool() as pool:
        assert pool.grade([]) == []
        assert pool.processes() == []
        verdict = asyncio.run(RuleGrader(pool=pool).grade([(Question("q", "?", "5"), text("5"))]))
        assert [v.status for v in verdict] == [RolloutStatus.NO_ANSWER]
        plain = [(Question("q", "?", "5.0"), text(r"\boxed{5}"))]
        assert asyncio.run(RuleGrader(pool=pool).grade(plain))[0].correct
        assert pool.processes() == []


@pytest.mark.parametrize("how", ["hang", "spin"])
def test_a_time_out_is_an_outcome_of_one_task(bad: WorkerPool, how: str) -> None:
    start = time.monotonic()
    assert bad.grade([task("5"), task(how), task("6"), task("5")]) == [
        Outcome.RIGHT,
        Outcome.TIMEOUT,
        Outcome.WRONG,
        Outcome.RIGHT,
    ]
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("how", ["die", "kill", "raise", "memory"])
def test_a_death_is_an_outcome_of_one_task(bad: WorkerPool, how: str) -> None:
    tasks = [task("5"), task(how), task("6"), task("5")]
    expected = [Outcome.RIGHT, Outcome.ERROR, Outcome.WRONG, Outcome.RIGHT]
    assert bad.grade(tasks) == expected
    assert bad.grade([task("5")]) == [Outcome.RIGHT]


def test_a_task_that_was_unlucky_once_is_graded(bad: WorkerPool, tmp_path: Path) -> None:
    box = f"once {tmp_path / 'mark'}"
    assert bad.grade([task("5"), task(box, box)]) == [Outcome.RIGHT, Outcome.RIGHT]


def test_a_process_killed_from_outside_is_replaced(bad: WorkerPool) -> None:
    assert bad.grade([task("5")]) == [Outcome.RIGHT]
    for pid in bad.processes():
        os.kill(pid, 9)
    assert bad.grade([task("5"), task("6")] * 20) == [Outcome.RIGHT, Outcome.WRONG] * 20


def test_what_a_rule_prints_or_reads_goes_nowhere(bad: WorkerPool) -> None:
    assert bad.grade([task("print"), task("5")]) == [Outcome.WRONG, Outcome.RIGHT]


def test_many_threads_at_once(pool: WorkerPool) -> None:
    def grade(number: int) -> list[Outcome]:
        return pool.grade([task(f"{number}+{k}", str(number + 3)) for k in range(10)])

    with ThreadPoolExecutor(16) as threads:
        for outcomes in threads.map(grade, range(40)):
            assert [o is Outcome.RIGHT for o in outcomes] == [k == 3 for k in range(10)]
    assert len(pool.processes()) <= pool.workers


def test_event_loops_are_not_blocked(bad: WorkerPool) -> None:
    async def main() -> int:
        grading = asyncio.create_task(bad.grade_async([task("hang")]))
        ticks = 0
        while not grading.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert grading.result() == [Outcome.TIMEOUT]
        return ticks

    assert asyncio.run(main()) > 10
    assert asyncio.run(bad.grade_async([task("5")])) == [Outcome.RIGHT]  # another loop


def test_a_cancelled_call_leaves_the_pool_usable(bad: WorkerPool) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bad.grade_async([task("hang")] * 3), 0.2)

    asyncio.run(main())
    assert bad.grade([task("5")]) == [Outcome.RIGHT]


def test_close_ends_the_processes_and_a_later_call_starts_new_ones() -> None:
    pool = WorkerPool(rule=BAD)
    assert pool.grade([task("5")]) == [Outcome.RIGHT]
    old = pool.processes()
    pool.close()
    assert old and not any(map(running, old)) and pool.processes() == []
    assert pool.grade([task("5")]) == [Outcome.RIGHT]
    new = pool.processes()
    del pool  # collected without having been closed
    assert new and not any(map(running, new))


def test_close_while_another_thread_grades_does_not_hang() -> None:
    pool = WorkerPool(deadline_s=60.0, rule=BAD)
    raised: list[BaseException] = []

    def grade() -> None:
        try:
            pool.grade([task("hang")])
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=grade)
    thread.start()
    while not pool.processes():
        time.sleep(0.01)
    pool.close()
    thread.join(20)
    assert not thread.is_alive() and isinstance(raised[0], RunError)


def test_a_rule_that_cannot_be_imported_is_a_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        WorkerPool(rule="tests.rewards.no_such_module:rule") as pool,
        pytest.raises(RunError, match=r"rewards\.isolate=false"),
    ):
        pool.grade([task("x")])
    assert "no_such_module" in capfd.readouterr().err


SCRIPT = """
import os, sys, threading
from zppo.rewards import WorkerPool
print("started", flush=True)
pool = WorkerPool(rule="{rule}")
print(pool.grade([("5", "5", None, "robust")]), *pool.processes(), flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(1)", "raise ValueError", "os.kill(os.getpid(), 9)"])
def test_nothing_is_left_when_the_interpreter_ends(tmp_path: Path, end: str) -> None:
    """Also without a main guard in the script, and when it is killed."""
    script = tmp_path / "main.py"
    script.write_text(SCRIPT.format(rule=BAD, end=end), encoding="utf-8")
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, env=paths
    )
    started, outcome = done.stdout.splitlines()
    assert started == "started" and "RIGHT" in outcome
    pids = [int(pid) for pid in outcome.split()[2:] if pid.isdigit()]
    deadline = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pids and not any(map(running, pids))


def text(answer: str) -> Response:
    return Response(np.zeros(1, np.int64), None, answer, True)


def test_the_grader_records_what_came_of_its_processes(bad: WorkerPool) -> None:
    boxes = ["hang", "die", "five", "six", "5"]
    items = [(Question("q", "?", "five"), text(f"\\boxed{{{box}}}")) for box in boxes]
    grades = asyncio.run(RuleGrader(pool=bad).grade(items))
    assert grades == [
        Grade(False, RolloutStatus.GRADER_TIMEOUT, "hang"),
        Grade(False, RolloutStatus.GRADER_ERROR, "die"),
        Grade(True, RolloutStatus.GRADED, "five"),
        Grade(False, RolloutStatus.GRADED, "six"),
        Grade(False, RolloutStatus.GRADED, "5"),
    ]


def test_a_mistake_outside_the_processes_is_a_status_too(pool: WorkerPool) -> None:
    item = (Question("q", "?", "five"), text(r"\boxed{5}"))
    with mock.patch("zppo.rewards.grader.extract_boxed", side_effect=RuntimeError("broken")):
        grades = asyncio.run(RuleGrader(pool=pool).grade([item]))
    assert grades == [Grade(False, RolloutStatus.GRADER_ERROR)]
