"""How many responses a second one process grades: `python benchmarks/grading.py`.

The answers are the pairs of the tests, each in a response of the given length, so every reading
of an answer is exercised. Caches are cleared before each pass: a run sees a gold answer G times
and most answers once, so the figure is a lower bound.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from zppo.rewards import evaluate, grade, normalize, units

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


def main() -> None:
    pairs = [pair for table in (SAME, DIFFERENT) for group in table.values() for pair in group]
    plain = [(str(n), str(n + n % 2)) for n in range(1000)]
    for name, answers in (("pairs of the tests", pairs), ("plain integers", plain)):
        for size in (0, 10_000, 100_000):
            filler = FILLER * (size // len(FILLER))
            responses = [(gold, f"{filler}\\boxed{{{answer}}}") for gold, answer in answers]
            rate = measure(responses, passes=5)
            print(f"{name:20} responses of {size:>7,} characters: {rate:>9,.0f} grades/s")


if __name__ == "__main__":
    main()
