"""The student's own mistakes, sampled while it is trained, as wrong candidates to learn from."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from zppo.algorithm.prompts import Templates
from zppo.lab.examples import boxed
from zppo.lab.puzzles import puzzle, trace_digits
from zppo.lab.rollouts import sample_texts
from zppo.types import Question

Mistakes = tuple[tuple[int, ...], tuple[str, ...]]  # digits, wrong responses


@dataclass(slots=True)
class Negatives:
    """Wrong responses by (family, level); a question's whole group stays together."""

    groups: dict[tuple[str, int], list[Mistakes]] = field(default_factory=dict)

    def draw(self, family: str, level: int, rng: random.Random) -> Mistakes:
        """A question and what the student got wrong on it; of a nearby level where the student
        made no mistake on this one."""
        having = [key for key in self.groups if key[0] == family and self.groups[key]]
        if not having:
            raise RuntimeError(f"no mistakes of the student on {family} puzzles to learn from")
        return rng.choice(self.groups[min(having, key=lambda key: (abs(key[1] - level), key[1]))])

    def summary(self) -> str:
        """Sizes by family and level."""
        cells = (
            f"{f}/{n} {len(g)}q {sum(len(w) for _, w in g) / max(len(g), 1):.1f}w"
            for (f, n), g in sorted(self.groups.items())
        )
        return f"mistakes: {', '.join(cells)}"


def sample_negatives(
    model: Any,
    tokenizer: Any,
    seed: str,
    levels: dict[str, tuple[int, ...]],
    each: int,
    n: int = 8,
) -> Negatives:
    """Ask the student fresh training puzzles of every level and keep what it got wrong."""
    asked: list[Question] = [
        puzzle(family, level, f"negatives/{seed}/{i}")
        for family, some in levels.items()
        for level in some
        for i in range(each)
    ]
    templates = Templates.default()
    answers = sample_texts(model, tokenizer, [(q, templates.plain(q)) for q in asked], n, seed)
    negatives = Negatives()
    for question, texts in zip(asked, answers, strict=True):
        wrong = tuple(t for t in texts if boxed(t) not in (None, question.answer))
        if wrong:
            family, level = question.source.split("/")
            key = (family, int(level))
            digits = trace_digits(question.reference or "")
            negatives.groups.setdefault(key, []).append((digits, wrong))
    return negatives
