"""Questions about real images: easy-VQA from PyPI, or a folder of rows and images.

    pip install easy-vqa                               # MIT, 3.2 MB: 64 x 64 images, 48K questions
    python examples/easy_vqa/prepare.py
    python examples/easy_vqa/prepare.py --source puzzlevqa --out build/puzzlevqa

A folder holds `train.jsonl` and `test.jsonl`, whose rows have `question`, `answer`, optional `id`
and `options`, and `images`: paths relative to the folder. Images stay where they are; the files
written here name them by absolute path.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Ours -> the split of the source.
SPLITS = {"train": "train", "validation": "test"}


def find_package() -> Path:
    """The data folder inside the installed `easy-vqa` package."""
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise SystemExit("No easy-vqa; run: pip install easy-vqa (or give --source FOLDER)")
    return Path(spec.origin).parent / "data"


def read_rows(source: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a split in our layout, from the package's own layout or from a folder of rows."""
    packaged = source / split / "questions.json"
    if packaged.is_file():
        rows = json.loads(packaged.read_text(encoding="utf-8"))
        for number, (text, answer, image) in enumerate(rows):
            path = source / split / "images" / f"{image}.png"
            yield _row(f"easy_vqa-{split}-{number}", text, answer, [path], "easy_vqa")
        return
    file = source / f"{split}.jsonl"
    if not file.is_file():
        raise SystemExit(f"Neither {packaged} nor {file} is there.")
    with file.open(encoding="utf-8") as lines:
        for number, row in enumerate(json.loads(line) for line in lines if line.strip()):
            name = row.get("id") or f"{source.name}-{split}-{number}"
            images = [source / image for image in row["images"]]
            question = _row(name, row["question"], row["answer"], images, source.name)
            yield question | ({"options": row["options"]} if row.get("options") else {})


def _row(name: str, text: str, answer: str, images: list[Path], source: str) -> dict[str, Any]:
    paths = [str(path.resolve()) for path in images]
    return {"id": name, "question": text, "answer": answer, "images": paths, "source": source}


def write_split(rows: Iterator[dict[str, Any]], file: Path, limit: int) -> int:
    """Write `limit` random rows (seed 0), in the order of the source."""
    found = list(rows)
    chosen = sorted(random.Random(0).sample(range(len(found)), min(limit, len(found))))
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(found[i], ensure_ascii=False) + "\n" for i in chosen]
    file.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--source", type=Path, help="a folder; default: the easy-vqa package")
    parser.add_argument("--out", type=Path, default=Path("build/easy_vqa"))
    parser.add_argument("--train", type=int, default=4_000, help="rows at most")
    parser.add_argument("--validation", type=int, default=200, help="rows at most")
    args = parser.parse_args()
    source = args.source or find_package()
    for name, split in SPLITS.items():
        file = args.out / f"{name}.jsonl"
        count = write_split(read_rows(source, split), file, getattr(args, name))
        print(f"Wrote {count} questions to {file}")


if __name__ == "__main__":
    main()
