"""How many responses a second are graded: `python benchmarks/grading.py`.

First in this process, then through the pool of killable workers, as a run does it.

The answers are the pairs of the tests, each in a response of the given length, so every reading
of an answer is exercised. Caches are cleared before each pass: a run sees a gold answer G times
and most answers once, so the figure is a lower bound.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import numpy as np

from zppo.rewards import RuleGrader, WorkerPool, evaluate, grade, normalize, units
from zppo.types import Question, Response

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "rewards"))
from pairs import DIFFERENT, SAME

CACHED = (normalize.clean, evaluate.read, evaluate.values, units.quantity)
FILLER = "Let $x_1 = \\frac{1}{2}$ and consider the set \\{a, b\\} again. "


def measure(responses: list[tuple[str, str]], passes: int) -> float:
    """Grades a second, caches cold at the start of each pass."""
    spent = 0.0
    for _ in range(passes):
        for function in CACHED:
            function.cache_clear()
        start = time.perf_counter()
        for gold, response in responses:
            grade(response, gold)
        spent += time.perf_counter() - start
    return passes * len(responses) / spent


def measure_pool(responses: list[tuple[str, str]], batch: int, passes: int = 5) -> None:
    """Grades a second through a grader with two processes, in batches as a step hands them over.

    The processes keep their caches between the passes; the first pass, start-up included, is
    reported apart.
    """
    items = [
        (Question("q", "?", gold), Response(np.zeros(1, np.int64), None, text, True))
        for gold, text in responses
    ]
    batches = [items[i : i + batch] for i in range(0, len(items), batch)]
    with WorkerPool(workers=2) as pool:
        grader, spent = RuleGrader(pool=pool), []
        for _ in range(1 + passes):
            start = time.perf_counter()
            for some in batches:
                asyncio.run(grader.grade(some))
            spent.append(time.perf_counter() - start)
        rate = passes * len(items) / sum(spent[1:])
        mean = 1000 * sum(spent[1:]) / (passes * len(batches))
        print(
            f"two workers, batches of {batch:>4}: {rate:>9,.0f} grades/s, {mean:.0f} ms a batch; "
            f"first pass {len(items) / spent[0]:,.0f} grades/s with {len(pool.processes())} starts"
        )


def main() -> None:
    pairs = [pair for table in (SAME, DIFFERENT) for group in table.values() for pair in group]
    plain = [(str(n), str(n + n % 2)) for n in range(1000)]
    for name, answers in (("pairs of the tests", pairs), ("plain integers", plain)):
        for size in (0, 10_000, 100_000):
            filler = FILLER * (size // len(FILLER))
            responses = [(gold, f"{filler}\\boxed{{{answer}}}") for gold, answer in answers]
            rate = measure(responses, passes=5)
            print(f"{name:20} responses of {size:>7,} characters: {rate:>9,.0f} grades/s")
    fresh = [  # no two alike, so that no cache helps
        (f"\\frac{{{n}}}{{{n + 1}}}", f"\\boxed{{\\dfrac{{{2 * n}}}{{{2 * n + 2 - n % 2}}}}}")
        for n in range(1, 4001)
    ]
    boxed = [(gold, f"\\boxed{{{answer}}}") for gold, answer in pairs]
    for name, responses in (
        ("pairs of the tests, 8 times each", 8 * boxed),
        ("fractions, all different", fresh),
        ("plain integers, decided here", [(g, f"\\boxed{{{a}}}") for g, a in plain]),
    ):
        print(f"{name}:")
        for batch in (300, 3072):
            measure_pool(responses, batch)


if __name__ == "__main__":
    main()
