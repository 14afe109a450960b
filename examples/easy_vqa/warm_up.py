"""A minute of supervised training, so that the lab's student answers such questions in a box.

    python examples/easy_vqa/warm_up.py

The lab's student has only seen its own puzzles and scores nothing on other images. A pass over
questions with their boxed answers teaches it the words and the box (hardly the seeing), which is
what reinforcement learning needs to begin. Every image goes the way it goes in a run: decoded,
resized by the processor within data.min_pixels and data.max_pixels, patched.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from zppo import load_config
from zppo.algorithm.prompts import Templates
from zppo.data import load_questions
from zppo.student.local import LocalStudent
from zppo.types import GroupKind, Prompt, Question

HERE = Path(__file__).parent
IGNORE = -100


def responses(
    student: LocalStudent, questions: Sequence[Question]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids of the boxed answers, right-padded, and their mask."""
    texts = [f"<think></think>\\boxed{{{q.answer}}}" for q in questions]
    ids = [student.as_response(text).token_ids for text in texts]
    ids_BT = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    for row, tokens in enumerate(ids):
        ids_BT[row, : len(tokens)], mask_BT[row, : len(tokens)] = tokens, 1
    return torch.from_numpy(ids_BT), torch.from_numpy(mask_BT)


def supervised_loss(
    student: LocalStudent, questions: Sequence[Question], templates: Templates
) -> torch.Tensor:
    """Cross-entropy of the boxed answers, each after its plain prompt with its image."""
    prompts = [Prompt(q, GroupKind.PLAIN, templates.plain(q)) for q in questions]
    batch = student.encoder.collate([student.encoder.encode(p) for p in prompts], "cpu")
    ids_BT, mask_BT = responses(student, questions)
    logits = student.model(**batch.followed_by(ids_BT, mask_BT), use_cache=False).logits
    predicted = logits[:, batch.ids.shape[1] - 1 : -1]
    labels = ids_BT.masked_fill(mask_BT == 0, IGNORE)
    return functional.cross_entropy(predicted.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--config", default=str(HERE / "grpo.yaml"))
    parser.add_argument("--data", help="default: data.train of the config")
    parser.add_argument("--out", type=Path, default=Path("build/easy_vqa/model"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rows", type=int, default=16, help="rows a step")
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    config = load_config(args.config, ["student.model=lab"])
    questions = load_questions(args.data or config.data.train, config.data).questions
    student = LocalStudent.from_config(config)
    templates = Templates.default()
    optimizer = torch.optim.AdamW(student.model.parameters(), lr=args.lr, weight_decay=0.0)
    torch.set_flush_denormal(True)
    student.model.train()
    rng = np.random.default_rng(0)
    for step in range(args.steps):
        chosen = [questions[i] for i in rng.integers(len(questions), size=args.rows)]
        loss = supervised_loss(student, chosen, templates)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 25 == 0:
            print(f"step {step + 1}/{args.steps}  loss {loss.item():.3f}", flush=True)
    student.export(args.out)
    print(f"Wrote {args.out}")


if __name__ == "__main__":
    main()
