"""Common shapes of data files, each as the columns it has."""

from __future__ import annotations

from collections.abc import Mapping

from zppo.config import ColumnsConfig, DataConfig

#: Columns of each `data.shape` that differ from our own names.
SHAPES: Mapping[str, Mapping[str, str]] = {
    "columns": {},
    "problem": {"question": "problem", "reference": "solution"},
    "messages": {"messages": "messages"},
    "sharegpt": {"messages": "conversations"},
    "llava": {"messages": "conversations", "images": "image", "videos": "video"},
    "verl": {
        "messages": "prompt",
        "answer": "reward_model.ground_truth",
        "source": "data_source",
    },
    "vero": {
        "question": "extra_info.question",
        "answer": "reward_model.ground_truth",
        "images": "image",
        "source": "data_source",
    },
    "mmfinereason": {
        "images": "image",
        "reference": "qwen3vl_235b_thinking_response",
    },
}


def columns_of(config: DataConfig) -> ColumnsConfig:
    """The columns to read: those of the shape, and above them those that the config names."""
    own = {name: getattr(config.columns, name) for name in config.columns.model_fields_set}
    return ColumnsConfig(**{**SHAPES[config.shape], **own})
