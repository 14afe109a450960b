"""What vLLM's own processor makes of prompts with media that the cluster engine requests: ids and
pixels, beside those that the trainer learns from. Run by `test_vllm.py`, in a process of its own
since torchvision comes first:

    python vllm_reads.py FOLDER TORCHVISION

FOLDER receives a tiny Qwen3.5; TORCHVISION holds the package, which does not load beside a CPU
build of torch by itself. Prints a JSON list of [name, same ids, largest difference of pixels].
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
sys.path.insert(0, sys.argv[2])

import numpy as np  # noqa: E402
from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor  # noqa: E402
from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens  # noqa: E402
from vllm import ModelRegistry  # noqa: E402
from vllm.config import ModelConfig  # noqa: E402
from vllm.model_executor.models.qwen3_5 import Qwen3_5ForConditionalGeneration  # noqa: E402
from vllm.multimodal import MULTIMODAL_REGISTRY  # noqa: E402

from tests import tiny  # noqa: E402
from tests.student.verl import engine  # noqa: E402
from zppo.config import load_config  # noqa: E402
from zppo.student.verl.media import AtReceiver  # noqa: E402
from zppo.student.verl.prompts import RequestedPrompt  # noqa: E402
from zppo.student.verl.reader import PromptReader  # noqa: E402

PROMPTS = [*tiny.prompts("vlm"), tiny.prompt("Both?", tiny.VIDEO, tiny.IMAGE, name="d")]


def main(folder: Path) -> None:
    write_checkpoint(folder)
    settings = ["student.engine=verl", "data.min_pixels=256", "data.max_pixels=16384"]
    reader = PromptReader.from_config(load_config(None, [f"student.model={folder}", *settings]))
    # By itself vLLM would look at the class in a process that has no torchvision.
    kind = Qwen3_5ForConditionalGeneration
    ModelRegistry.register_model(kind.__name__, kind)
    config = ModelConfig(model=str(folder), limit_mm_per_prompt={"image": 1, "video": 1})
    processor = MULTIMODAL_REGISTRY.create_processor(config)
    found = []
    for prompt, asked in zip(PROMPTS, reader.prompts.requested(PROMPTS, keep=False), strict=True):
        ours = reader.encoder.encode(prompt)
        if not prompt.question.media:
            continue
        theirs = read(processor, asked)
        same = theirs["prompt_token_ids"] == ours.ids.tolist()
        found.append([prompt.question.id, same, pixel_gap(theirs, ours)])
    print(json.dumps(found))


def write_checkpoint(folder: Path) -> None:
    engine.write_model(folder, kind="vlm")
    loaded = tiny.loaded("vlm")
    own = loaded.image_processor
    sizes = {k: getattr(own, k) for k in ("patch_size", "merge_size", "temporal_patch_size")}
    video = Qwen3VLVideoProcessor(
        **sizes,
        image_mean=own.image_mean,
        image_std=own.image_std,
        size={"shortest_edge": 256, "longest_edge": 65_536},
    )
    Qwen3VLProcessor(own, loaded.tokenizer, video).save_pretrained(folder)


def read(processor: Any, asked: RequestedPrompt) -> Any:
    """As a server gets the request and hands it to vLLM."""
    data: dict[str, Any] = {}
    for name, references in (("image", asked.images), ("video", asked.videos)):
        if references:
            data[name] = [pickle.loads(pickle.dumps(AtReceiver(r))) for r in references]
    ids = qwen2_5_vl_dedup_image_tokens(asked.ids.tolist(), processor.info.get_hf_processor())
    return processor(
        ids,
        mm_items=processor.info.parse_mm_data(data),
        hf_processor_mm_kwargs={},
    )


def pixel_gap(theirs: Any, ours: Any) -> float:
    gap = 0.0
    for name, key, own in (
        ("image", "pixel_values", ours.images),
        ("video", "pixel_values_videos", ours.videos),
    ):
        items = theirs["mm_kwargs"].get(name, [])
        assert len(items) == len(own)
        for item, (patches, _) in zip(items, own, strict=True):
            made = item[key].data
            if made.dtype == torch.uint8:  # the model itself normalises them
                made = made.float() / 127.5 - 1.0
            gap = max(gap, float(np.abs(made.float().numpy() - patches).max()))
    return gap


if __name__ == "__main__":
    main(Path(sys.argv[1]))
