"""Killable processes for the rule grader: a deadline a call, a memory limit, a restart on death.

The rule is bounded by construction (`limits.py`); this is the second line, for the mistake in it
that nobody has found yet. Processes start at the first answer that needs one, each a fresh
interpreter: no fork of a process with threads and CUDA, and no second import of the user's own
main script, which `multiprocessing` would do. They speak JSON over a socket; nothing is unpickled.

`WorkerPool` may be called from any thread and from any event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto

from zppo.errors import RunError
from zppo.rewards.worker import READY, RIGHT, WRONG

#: What a rule is called with: the content of the box, the gold answer, the options, the mode.
Task = tuple[str, str, tuple[str, ...] | None, str]

RULE = "zppo.rewards.grader:is_right"
_CHUNK_TASKS = 64
_WORTH_A_PROCESS = 16  # fewer are not spread over several
_CHUNK_BYTES = 100_000  # below a socket's buffer, so that sending does not wait for grading
_START_S = 120.0
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from zppo.rewards.worker import main;"
    " main(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))"
)


class Outcome(Enum):
    """What came of one call."""

    RIGHT = auto()
    WRONG = auto()
    TIMEOUT = auto()
    ERROR = auto()


@dataclass(slots=True, eq=False)
class _Call:
    """One call of `grade`. The threads leave it alone once nobody waits for it."""

    abandoned: bool = False


class WorkerPool:
    """Grades in `workers` processes.

    An answer that takes longer than `deadline_s` is a TIMEOUT and ends its process; one at which a
    process dies twice, or that needs more than `memory_mb`, is an ERROR. The rest of a batch is not
    affected. `close` (also `with`, and the end of the interpreter) ends the processes; a call
    after it starts new ones.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        deadline_s: float = 5.0,
        memory_mb: int = 1024,
        rule: str = RULE,
    ) -> None:
        self.workers, self.rule = workers, rule
        self.deadline_s, self.memory_mb = deadline_s, memory_mb
        self._lock = threading.Lock()
        self._state: _State | None = None

    def grade(self, tasks: Sequence[Task]) -> list[Outcome]:
        """One outcome a task, in order. Raises `RunError` when no process can be started."""
        call = _Call()
        futures = self._submit(call, tasks)
        try:
            return [outcome for future in futures for outcome in future.result()]
        finally:
            _abandon(call, futures)

    async def grade_async(self, tasks: Sequence[Task]) -> list[Outcome]:
        """As `grade`, without blocking the event loop."""
        call = _Call()
        futures = self._submit(call, tasks)
        try:
            chunks = await asyncio.gather(*map(asyncio.wrap_future, futures))
            return [outcome for chunk in chunks for outcome in chunk]
        finally:
            _abandon(call, futures)

    def processes(self) -> list[int]:
        """The ids of the processes that run now."""
        state = self._state
        return sorted(worker.process.pid for worker in state.alive) if state is not None else []

    def close(self) -> None:
        """End all processes and wait for them."""
        with self._lock:
            state, self._state = self._state, None
        if state is not None:
            state.end()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, call: _Call, tasks: Sequence[Task]) -> list[Future[list[Outcome]]]:
        if not tasks:
            return []
        with self._lock:
            if self._state is None or self._state.owner != os.getpid():  # none yet, or a fork's
                self._state = _State(self)
                weakref.finalize(self, self._state.end)
            state = self._state
            chunks = _chunks(tasks, self.workers)
            return [state.threads.submit(_work, state, call, chunk) for chunk in chunks]


def _abandon(call: _Call, futures: Sequence[Future[list[Outcome]]]) -> None:
    """After an error or Ctrl-C: what has not begun is not begun any more."""
    call.abandoned = True
    for future in futures:
        future.cancel()


def _chunks(tasks: Sequence[Task], workers: int) -> list[list[tuple[Task, bytes]]]:
    """Tasks with what is sent for them, in pieces for each process to take in turn."""
    most = min(_CHUNK_TASKS, max(_WORTH_A_PROCESS, -(-len(tasks) // workers)))
    chunks: list[list[tuple[Task, bytes]]] = [[]]
    size = 0
    for task in tasks:
        line = json.dumps(task).encode() + b"\n"
        if chunks[-1] and (len(chunks[-1]) >= most or size + len(line) > _CHUNK_BYTES):
            chunks.append([])
            size = 0
        chunks[-1].append((task, line))
        size += len(line)
    return chunks


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket

    def end(self) -> None:
        """Kill the process and wait for it, so that no zombie is left."""
        with contextlib.suppress(OSError):
            self.channel.close()
        self.process.kill()
        self.process.wait()


class _State:
    """The threads and processes of a pool between two `close`. Does not refer to the pool, which
    can therefore be collected."""

    def __init__(self, pool: WorkerPool) -> None:
        self.owner = os.getpid()
        self.deadline_s, self.memory_mb, self.rule = pool.deadline_s, pool.memory_mb, pool.rule
        self.threads = ThreadPoolExecutor(pool.workers, thread_name_prefix="zppo-grader")
        self.idle: list[_Worker] = []
        self.alive: set[_Worker] = set()
        self.ended = False
        self.lock = threading.Lock()

    def take(self) -> _Worker:
        """An idle process, or a new one. There are never more than threads."""
        with self.lock:
            if self.ended:
                raise RunError("The grader's processes were ended while they graded.")
            if self.idle:
                return self.idle.pop()
        worker = _start(self.rule, self.deadline_s, self.memory_mb)
        with self.lock:
            self.alive.add(worker)
            ended = self.ended
        if ended:
            self.drop(worker)
            raise RunError("The grader's processes were ended while they graded.")
        return worker

    def give_back(self, worker: _Worker) -> None:
        with self.lock:
            if not self.ended:
                self.idle.append(worker)

    def drop(self, worker: _Worker) -> None:
        with self.lock:
            self.alive.discard(worker)
        worker.end()

    def end(self) -> None:
        if self.owner != os.getpid():
            return  # a fork: the processes belong to its parent
        with self.lock:
            self.ended = True
            alive, self.alive, self.idle = list(self.alive), set(), []
        for worker in alive:
            worker.end()
        self.threads.shutdown(wait=False, cancel_futures=True)


def _start(rule: str, deadline_s: float, memory_mb: int) -> _Worker:
    """A process that is ready to grade. Raises `RunError`."""
    ours, theirs = socket.socketpair()
    # Isolated, with this interpreter's path: no module of the working directory is in the way.
    command = [sys.executable, "-I", "-c", _MAIN, json.dumps(sys.path), rule]
    command += [str(deadline_s), str(memory_mb)]
    # One thread each: numpy would map memory for many, which counts against the limit.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    hint = "Set rewards.isolate=false to grade in the process of the run."
    try:
        with theirs:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=os.environ | threads,
                start_new_session=True,
            )
    except OSError as error:
        ours.close()
        raise RunError(f"Cannot start a process for the grader: {error}. {hint}") from error
    worker = _Worker(process, ours)
    ours.settimeout(_START_S)
    try:
        ready = ours.recv(1) == READY
    except OSError:
        ready = False
    if not ready:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)  # it may be about to say why
        worker.end()
        raise RunError(f"A process for the grader ended or hung while it started. {hint}")
    ours.settimeout(deadline_s)
    return worker


def _work(state: _State, call: _Call, chunk: list[tuple[Task, bytes]]) -> list[Outcome]:
    """Grade one chunk, with as many processes as it takes."""
    outcomes: list[Outcome] = []
    died_at = -1
    while len(outcomes) < len(chunk):
        if call.abandoned:
            return outcomes
        worker = state.take()
        end = _exchange(worker, [line for _, line in chunk[len(outcomes) :]], outcomes)
        if end is None:
            state.give_back(worker)
            continue
        state.drop(worker)
        if end is Outcome.TIMEOUT or died_at == len(outcomes):
            outcomes.append(end)
        else:
            died_at = len(outcomes)  # once more, in a fresh process
    return outcomes


def _exchange(worker: _Worker, lines: list[bytes], outcomes: list[Outcome]) -> Outcome | None:
    """Send, and collect the outcomes in `outcomes`. What ended it early, None when nothing did."""
    try:
        worker.channel.sendall(b"".join(lines))
        waiting = len(lines)
        while waiting:
            replies = worker.channel.recv(waiting)
            if not replies:
                return Outcome.ERROR
            outcomes += [_OUTCOMES.get(reply, Outcome.ERROR) for reply in replies]
            waiting -= len(replies)
    except TimeoutError:
        return Outcome.TIMEOUT
    except OSError:
        return Outcome.ERROR
    return None


_OUTCOMES = {RIGHT[0]: Outcome.RIGHT, WRONG[0]: Outcome.WRONG}
