"""The embedded default world: puzzles, a tiny student and a tiny teacher."""

from __future__ import annotations

from pathlib import Path

#: The shipped models as a config names them, and their folders.
MODELS = {"lab": "student", "lab-teacher": "teacher", "lab-habit": "habit"}


def model_path(name: str) -> Path:
    """The folder of the shipped `student`, `teacher` or `habit`."""
    folder = Path(__file__).parent / "weights" / name
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"no lab model `{name}` in {folder}; `zppo lab` builds it")
    return folder
