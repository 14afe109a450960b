"""A short supervised pass over worked solutions, so that the model answers in a box at all.

    python examples/smollm2/prepare.py data --source gsm8k/train.jsonl --out build/smollm2/gsm8k
    python examples/smollm2/warm_up.py

SmolLM2-135M puts few of its answers into a box, and what is never boxed is never rewarded. The
rows need a `reference`. It is a plain loop on purpose: warming up is not part of the method.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from zppo.algorithm.prompts import Templates
from zppo.types import Question

BUILD = Path("build/smollm2")


def target(row: dict[str, Any]) -> str:
    """The response to learn: the solution as the thought, then the boxed answer."""
    return f"<think>\n{row['reference']}\n</think>\n\\boxed{{{row['answer']}}}"


def encode(row: dict[str, Any], tokenizer: Any, templates: Templates) -> tuple[list[int], int]:
    """Token ids of prompt and response, and the length of the prompt."""
    question = Question(row["id"], row["question"], row["answer"])
    turn = [{"role": "user", "content": templates.plain(question)}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(target(row), add_special_tokens=False)["input_ids"]
    return [*ids, *answer, tokenizer.eos_token_id], len(ids)


def batch(items: list[tuple[list[int], int]], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded rows whose labels leave out prompt and padding."""
    width = max(len(ids) for ids, _ in items)
    ids_BT = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in items])
    labels_BT = ids_BT.clone()
    mask_BT = torch.zeros_like(ids_BT)
    for row, (ids, start) in enumerate(items):
        labels_BT[row, :start] = labels_BT[row, len(ids) :] = -100
        mask_BT[row, : len(ids)] = 1
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--model", type=Path, default=BUILD / "model")
    parser.add_argument("--data", type=Path, default=BUILD / "gsm8k/train.jsonl")
    parser.add_argument("--out", type=Path, default=BUILD / "warm")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rows", type=int, default=4, help="rows a step")
    parser.add_argument("--max-tokens", type=int, default=200, help="leave out longer rows")
    parser.add_argument("--lr", type=float, default=1e-4)
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    rows = [json.loads(line) for line in args.data.read_text(encoding="utf-8").splitlines()]
    templates = Templates.default()
    items = [encode(row, tokenizer, templates) for row in rows if row.get("reference")]
    items = [item for item in items if len(item[0]) <= args.max_tokens]
    if not items:
        raise SystemExit(f"No row of {args.data} has a short worked solution (`reference`).")
    random.Random(0).shuffle(items)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.0)
    model.train()
    for step in range(args.steps):
        chosen = [items[(step * args.rows + i) % len(items)] for i in range(args.rows)]
        loss = model(**batch(chosen, tokenizer.pad_token_id)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1}/{args.steps}  loss {loss.item():.3f}", flush=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    print(f"Wrote {args.out}")


if __name__ == "__main__":
    main()
