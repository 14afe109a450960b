"""Small copies of the two sources of ZPPO-77K: their folders, columns and nesting, a few rows each.

Columns and layout follow the code that Vero publishes to format its data set, and code that others
publish to read MMFineReason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.data_files import encoded

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(seed: int, side: int = 120) -> dict[str, Any]:
    return {"bytes": encoded(side, side, "JPEG", seed), "path": f"{seed}.jpg"}


def vero_row(i: int, **changes: Any) -> dict[str, Any]:
    question = changes.pop("question", f"<image>\nHow many circles are in figure number {i}?")
    answer = changes.pop("answer", str(i))
    return {
        "id": f"vero-{i}",
        "data_source": "ai2d",
        "prompt": [{"role": "system", "content": "Reason."}, {"role": "user", "content": question}],
        "ability": "stem",
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {
            "id": f"vero-{i}",
            "index": i,
            "question": question,
            "answer": answer,
            "reward_type": "numeric",
            "tolerance": None,
        },
        "image": picture(i),
    } | changes


def mmf_row(i: int, source: str, **changes: Any) -> dict[str, Any]:
    return {
        "source": source,
        "id": i,
        "question": f"<image>Find the angle marked x in drawing {i} of the set.",
        "original_question": f"angle {i}?",
        "original_answer": str(i),
        "answer": str(i),
        "image": picture(1_000 + i),
        "qwen3vl_235b_instruct_caption": "A drawing.",
        "qwen3vl_235b_thinking_response": f"<think>so</think><answer>{i}</answer>",
        "pass_rate": 0.25,
    } | changes


def write_shard(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    for name in ("image",):
        column = table.schema.get_field_index(name)
        if column >= 0:
            cast = pa.array([row[name] for row in rows], type=_IMAGE)
            table = table.set_column(column, name, cast)
    pq.write_table(table, path, row_group_size=4)


RECIPE = """
name: little
seed: 5
filters: {max_answer_chars: 20, min_image_side: 100, max_prompt_tokens: 4096}
caps: {1: 6, 2: 3}
sources:
  - {name: vero, dataset: org/vero, licence: none, shape: vero, files: "*/train-*.parquet",
     subset: folder}
  - {name: mmfinereason, dataset: org/mmf, licence: apache-2.0, shape: mmfinereason,
     files: "data/train-*.parquet", subset: source, at_most: {pass_rate: 0.5}}
subsets:
  - {name: ai2d, tier: 1, vero: [stem-ai2d_merged], mmfinereason: [FineVision-ai2d_merged]}
  - {name: geo, tier: 1, mmfinereason: [FineVision-geo170k(qa)]}
  - {name: raven, tier: 2, vero: [stem-raven]}
"""
