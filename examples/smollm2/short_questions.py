"""GSM8K questions with a short worked solution, for the run of docs/study.md.

    python examples/smollm2/short_questions.py --train hub:train --test hub:test

Writes `warm.jsonl` (for warm_up.py), `rl.jsonl` and `validation.jsonl`, disjoint; the last is from
the test split. Sources are as in prepare.py.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from prepare import BUILD, read_rows, to_question  # pyright: ignore[reportMissingImports]
from transformers import AutoTokenizer

QUESTION_TOKENS, SOLUTION_TOKENS = 75, 80
WARM_ROWS, VALIDATION_ROWS = 480, 128


def short(source: str, tokenizer: Any) -> list[dict[str, Any]]:
    """The questions of `source` whose text and solution are short, shuffled (seed 0)."""

    def fits(text: str, limit: int) -> bool:
        return len(tokenizer(text)["input_ids"]) <= limit

    made = (to_question(row, i, "gsm8k") for i, row in enumerate(read_rows(source)))
    rows = [
        row
        for row in made
        if "reference" in row
        and fits(row["question"], QUESTION_TOKENS)
        and fits(row["reference"], SOLUTION_TOKENS)
    ]
    random.Random(0).shuffle(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--model", type=Path, default=BUILD / "model", help="its tokenizer counts")
    parser.add_argument("--out", type=Path, default=BUILD / "gsm8k")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    train, test = short(args.train, tokenizer), short(args.test, tokenizer)
    parts = {
        "warm": train[:WARM_ROWS],
        "rl": train[WARM_ROWS:],
        "validation": test[:VALIDATION_ROWS],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (args.out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(rows)} questions")


if __name__ == "__main__":
    main()
