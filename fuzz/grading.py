# ruff: noqa: RUF001 - characters that look alike are among the inputs
"""Random answers against the grader: `python fuzz/grading.py --inputs 1000000`.

Every input is one response and one gold answer, graded in both modes. Wanted of each: no
exception, an answer within the time limit, nothing executed, and in every box that holds its gold
answer a right verdict. Inputs are mutations of the pairs of the tests, mixtures of the pieces
answers are made of, and raw characters. A seed repeats a run; findings are printed as they come
and make the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from pathlib import Path

from zppo.rewards import extract_boxed, grade

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "rewards"))
from pairs import DIFFERENT, SAME

TESTS = Path(__file__).parents[1] / "tests/rewards"
SEEDS = [text for table in (SAME, DIFFERENT) for ps in table.values() for p in ps for text in p]
with (TESTS / "second_look.jsonl").open(encoding="utf-8") as rows:
    for row in map(json.loads, rows):
        SEEDS += [row["gold"], extract_boxed(row["response"]) or ""]
PIECES = (  # noqa: SIM905 - a list of one-character strings is harder to read
    r" \frac \sqrt \pi \pm \cup \in \le \text \left \right \{ \} \\ \begin{pmatrix} \end{pmatrix}"
    r" & { } ( ) [ ] , ; : = < > ^ _ ! % ° $ | + - * / . 0 1 2 9 12 345 x y n a A B or and cm ft"
    r" hours \sin \log \infty \circ e i yes no \boxed \boxed{ \lfloor \rfloor \binom \approx"
    r" million \sum \int __import__('os') eval( 9**9**9**9 ((9!)!)! 10^{10^{10}} \overline{3}"
    r" hundred forty- squared per x=1, \dfrac12 \mathbb{R} 1e9999 <think> </think> {\"verdict\":"
).split(" ")
EXOTIC = "½⁹₂√π×−°，一٣Ⅷ\x00\u200b\ud800\U0001d7d8ﬁ"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=0.5, help="CPU seconds an input may take")
    args = parser.parse_args()
    forbid_execution()
    rng = random.Random(args.seed)
    findings, slowest, start = 0, (0.0, ""), time.monotonic()
    done = 0
    for done in range(1, args.inputs + 1):
        response, gold = sample(rng)
        began = time.thread_time()
        problem = check(response, gold)
        spent = time.thread_time() - began
        slowest = max(slowest, (spent, ascii(response[:200])))
        if problem is None and spent > args.limit:
            problem = f"took {spent:.2f} s"
        if problem is not None:
            findings += 1
            print(f"FINDING {problem}: {response[:3000]!a} for {gold[:300]!a}", flush=True)
        if done % 100_000 == 0:
            print(f"{done:,} inputs, {findings} findings", flush=True)
        if time.monotonic() - start > 60 * args.minutes:
            break
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{done:,} inputs in {time.monotonic() - start:.0f} s, seed {args.seed}: {findings} "
        f"findings; slowest {1000 * slowest[0]:.0f} ms CPU ({slowest[1]}); peak {memory:.0f} MB"
    )
    return 1 if findings else 0


def forbid_execution() -> None:
    """From here on, running code, a process or a file from an answer is an error."""
    forbidden = {"exec", "open", "os.system", "os.exec", "subprocess.Popen", "socket.connect"}

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in forbidden:
            raise RuntimeError(f"{event} {arguments!r:.100}")

    grade("\\boxed{1}", "2")  # all imports done
    sys.addaudithook(audit)


def check(response: str, gold: str) -> str | None:
    """What is wrong with how this input is graded, None when nothing is."""
    try:
        box = extract_boxed(response)
        verdict = grade(response, gold, options=("red", gold) if len(gold) % 5 == 0 else None)
        strict = grade(response, gold, mode="paper")
    except BaseException as error:
        return f"raised {error!r:.200}"
    if box is None and verdict.correct:
        return "right without a box"
    right = verdict.correct and strict.correct
    if box is not None and gold.strip() and box.strip() == gold.strip() and not right:
        return "the gold answer itself is wrong"
    return None


def sample(rng: random.Random) -> tuple[str, str]:
    """A response and a gold answer."""
    gold = mutate(rng, rng.choice(SEEDS)) if rng.random() < 0.3 else rng.choice(SEEDS)
    answer = gold if rng.random() < 0.05 else _answer(rng)
    kind = rng.random()
    if kind < 0.85:
        return f"so \\boxed{{{answer}}}", gold
    if kind < 0.95:
        return mutate(rng, f"\\boxed{{{answer}}} and \\boxed{{{_answer(rng)}}}"), gold
    return "".join(
        rng.choices(["\\boxed{", "}", "{", "\\", "5", "\\}", " "], k=rng.randint(1, 400))
    ), gold


def _answer(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return mutate(rng, rng.choice(SEEDS))
    if kind < 0.85:
        return rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randint(1, 40)))
    if kind < 0.9:
        return (rng.choice(PIECES) * rng.randint(1, 2500))[: rng.randint(1, 2100)]
    return "".join(chr(_character(rng)) for _ in range(rng.randint(0, 60)))


def _character(rng: random.Random) -> int:
    return rng.randrange(32, 127) if rng.random() < 0.7 else rng.randrange(0x11000)


def mutate(rng: random.Random, text: str) -> str:
    """`text` after one to four small changes."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        change = rng.randrange(6)
        if change == 0:
            text = text[:at] + text[min(end, at + 3) :]
        elif change == 1:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif change == 2:
            text = text[:at] + text[at:end] * rng.randint(2, 6) + text[end:]
        elif change == 3:
            text = text[:at] + rng.choice(EXOTIC) + text[at:]
        elif change == 4:
            text = text[:at] + rng.choice(SEEDS) + text[end:]
        else:
            text = text[:at] + chr(_character(rng)) + text[at + 1 :]
    return text[:20_000]


if __name__ == "__main__":
    sys.exit(main())
