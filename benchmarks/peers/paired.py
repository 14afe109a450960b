"""Paired runs: each side in a fresh process, in turn, the first one alternating."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Side:
    """One run of one side, warm-up steps left out: means over its steps, a peak over all."""

    seconds: float
    cpu_seconds: float
    sampling_seconds: float
    update_seconds: float
    tokens: float
    prompt_tokens: float
    stopped: float
    peak_mib: float
    versions: dict[str, str]

    @classmethod
    def read(cls, path: Path, warmup: int) -> Side:
        tree = json.loads(path.read_text())
        steps: list[dict[str, Any]] = tree["steps"][warmup:]
        names = [n for n in cls.__slots__ if n not in ("peak_mib", "versions")]
        means = {name: statistics.fmean(s[name] for s in steps) for name in names}
        return cls(**means, peak_mib=tree["peak_mib"], versions=tree["versions"])


#: (ours, the peer's) of one pair.
Pair = tuple[Side, Side]


def run_pairs(pairs: int, ours: Callable[[int], Side], peer: Callable[[int], Side]) -> list[Pair]:
    """`pairs` times both, ours first in the first pair, the peer first in the second, ... Both
    are given the number of the pair, their seed."""
    done: list[Pair] = []
    for number in range(pairs):
        if number % 2 == 0:
            us, them = ours(number), peer(number)
        else:
            them = peer(number)
            us = ours(number)
        done.append((us, them))
        print(f"  pair {number + 1}: {us.seconds:.2f} s and {them.seconds:.2f} s", flush=True)
    return done


def ratios(pairs: Sequence[Pair], value: Callable[[Side], float]) -> str:
    """Median and range over the pairs of peer / ours."""
    found = sorted(value(them) / value(us) for us, them in pairs)
    return f"{statistics.median(found):.2f}x ({found[0]:.2f} to {found[-1]:.2f})"


def require_equal(pairs: Sequence[Pair], *names: str) -> None:
    """Leave when the sides of a pair did not do the same."""
    for us, them in pairs:
        for name in names:
            if getattr(us, name) != getattr(them, name):
                raise SystemExit(
                    f"The sides differ in {name}: {getattr(us, name)}, {getattr(them, name)}"
                )


def report(name: str, pairs: Sequence[Pair], ours: str = "ours", peer: str = "TRL") -> str:
    """A section of Markdown."""

    def row(label: str, value: Callable[[Side], float], form: str = ".2f") -> str:
        us, them = (statistics.median(value(p[i]) for p in pairs) for i in (0, 1))
        return f"| {label} | {us:{form}} | {them:{form}} | {ratios(pairs, value)} |"

    def versions(side: Side) -> str:
        return ", ".join(f"{k} {v}" for k, v in side.versions.items())

    us, them = pairs[0]
    return "\n".join(
        [
            f"### {name}",
            "",
            f"| a step | {ours} | {peer} | {peer} / {ours}: median (range) of {len(pairs)} |",
            "|---|---|---|---|",
            row("seconds", lambda s: s.seconds),
            row("CPU seconds", lambda s: s.cpu_seconds),
            row("... sampling, seconds", lambda s: s.sampling_seconds),
            row("... the rest, seconds", lambda s: s.seconds - s.sampling_seconds),
            row("seconds per 1,000 sampled tokens", lambda s: 1000 * s.seconds / s.tokens),
            row("tokens sampled", lambda s: s.tokens, ".0f"),
            row("prompt tokens (each prompt G times)", lambda s: s.prompt_tokens, ".0f"),
            row("responses that ended by themselves", lambda s: s.stopped, ".0f"),
            row("peak memory of the process, MiB", lambda s: s.peak_mib, ".0f"),
            "",
            f"{ours}: {versions(us)}; {peer}: {versions(them)}.",
            "",
        ]
    )
