"""How good the lab's models are, in the terms that ZPPO cares about.

Everything is sampled at temperature 1 with the engine's own sampler, prompts are the default
templates, and answers are compared as the boxed text. BCQ and NCQ are asked on the questions on
which every one of the student's own G plain responses was wrong, with its own wrong responses as
candidates; "plain again" asks those questions plainly once more, so that luck in the first
sampling is not mistaken for a gain. What samples are too few to show, how likely the right
response is to a plain prompt at all, is read off the model's own probabilities.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen3_5ForConditionalGeneration

from zppo.algorithm.prompts import Templates
from zppo.lab.build import new_digits
from zppo.lab.examples import IGNORE, ExampleMaker, Puzzle, boxed, collate
from zppo.lab.models import limit_threads
from zppo.lab.puzzles import questions
from zppo.lab.rollouts import sample_texts
from zppo.teacher.scripted import compress
from zppo.types import Question

GROUP = 8


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a checkpoint."""
    model = Qwen3_5ForConditionalGeneration.from_pretrained(folder)
    return model, AutoTokenizer.from_pretrained(folder)


def measure(
    model: Any, tokenizer: Any, asked: Sequence[Question], reformulate: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Accuracy by family and level, share of groups by outcome, and accuracy of BCQ, NCQ and
    plain prompts on the all-wrong questions."""
    templates = Templates.default()
    plain = [(q, templates.plain(q)) for q in asked]
    texts = sample_texts(model, tokenizer, plain, GROUP, f"{seed}/plain")
    marks = [[boxed(t) == q.answer for t in group] for q, group in zip(asked, texts, strict=True)]
    result: dict[str, Any] = {
        "questions": len(asked),
        "plain": _mean(marks),
        "all_wrong": sum(not any(m) for m in marks) / len(marks),
        "all_right": sum(all(m) for m in marks) / len(marks),
        "plain_by_source": _by_source(asked, marks),
        "worked_probability": {
            source: worked_probability(model, tokenizer, source)
            for source in sorted({q.source for q in asked})
        },
    }
    hard = [i for i, m in enumerate(marks) if not any(m)]
    if not reformulate or not hard:
        return result
    rng = random.Random(f"{seed}/candidates")
    bcq: list[tuple[Question, str]] = []
    ncq: list[tuple[Question, str]] = []
    for i in hard:
        question, wrong = asked[i], texts[i]
        pair = [compress(question.reference or ""), compress(rng.choice(wrong))]
        rng.shuffle(pair)
        bcq.append((question, templates.bcq(question, pair)))
        answers = list(dict.fromkeys(a for a in map(boxed, wrong) if a))
        ncq.append((question, templates.ncq(question, answers, [compress(w) for w in wrong])))
    on_hard: dict[str, Any] = {"questions": len(hard)}
    again = [plain[i] for i in hard]
    for name, prompts in (("bcq", bcq), ("ncq", ncq), ("plain_again", again)):
        replies = sample_texts(model, tokenizer, prompts, GROUP, f"{seed}/{name}")
        right = [
            [boxed(t) == q.answer for t in group]
            for (q, _), group in zip(prompts, replies, strict=True)
        ]
        on_hard[name] = _mean(right)
        on_hard[f"{name}_some_right"] = sum(any(m) for m in right) / len(right)
        if name == "ncq":
            listed = [{boxed(t) for t in texts[i]} for i in hard]
            on_hard["ncq_repeats_listed"] = _mean(
                [[boxed(t) in s for t in g] for s, g in zip(listed, replies, strict=True)]
            )
        on_hard[f"{name}_by_source"] = _by_source([q for q, _ in prompts], right)
    result["on_all_wrong"] = on_hard
    return result


@torch.no_grad()
def worked_probability(model: Any, tokenizer: Any, source: str, puzzles: int = 32) -> float:
    """Mean probability, over fresh `puzzles` of a source such as "text/7", of the whole worked
    response to the plain prompt: how often a sample at temperature 1 is exactly that."""
    family, level = source.split("/")
    maker, rng = ExampleMaker(tokenizer), random.Random(f"worked/{source}")
    made = [Puzzle(family, new_digits(int(level), rng)) for _ in range(puzzles)]
    inputs, labels = collate([maker.plain(p, rng) for p in made], tokenizer.pad_token_id)
    logits = model(**inputs).logits.log_softmax(-1)
    chosen = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (chosen * (labels != IGNORE)).sum(-1).exp().mean().item()


def _mean(marks: Sequence[Sequence[bool]]) -> float:
    return sum(map(sum, marks)) / max(sum(map(len, marks)), 1)


def _by_source(asked: Sequence[Question], marks: Sequence[Sequence[bool]]) -> dict[str, float]:
    by: dict[str, list[Sequence[bool]]] = {}
    for question, mark in zip(asked, marks, strict=True):
        by.setdefault(question.source, []).append(mark)
    return {source: _mean(by[source]) for source in sorted(by)}


def main() -> None:
    """Print the measurements of a checkpoint as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--plain-only", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    limit_threads()
    model, tokenizer = load(args.folder)
    asked = questions(args.split)[: args.limit]
    result = measure(model, tokenizer, asked, not args.plain_only, args.seed)
    print(json.dumps(_rounded(result), indent=1))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
