"""Makes torchvision load in TRL's environment. As a script, `python vision.py SCRIPT ARGUMENT...`,
it runs another one after that."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import version

import torch


def stand_in_for_vision_operators() -> torch.library.Library | None:
    """torchvision's wheel on the package index is a CUDA build; beside a CPU torch its import
    asks for operators that it cannot load. Image processors use none of them. The result must
    stay referenced."""
    if torch.version.cuda is not None or "+cpu" in version("torchvision"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


if __name__ == "__main__":
    _operators = stand_in_for_vision_operators()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
