"""A trained model as a plain Hugging Face folder, without what only a resume needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from zppo.errors import RunError
from zppo.runs.checkpoint import STATE, TRAINING_FILES, find_checkpoint
from zppo.runs.directory import RunDirectory
from zppo.runs.files import HIDDEN, naming


def export(source: str | Path, out: str | Path, checkpoint: str = "latest") -> Path:
    """Copy the model of a run, or of one of its checkpoint folders, to the new folder `out`.

    `checkpoint` picks one of a run: `latest`, `best` or a step. LoRA adapters are merged into
    their base model. Raises `RunError`.
    """
    path = Path(source)
    if (path / STATE).is_file():
        run = RunDirectory.open(path.absolute().parent.parent)
    else:
        run = RunDirectory.open(path)
        path = find_checkpoint(run, checkpoint)
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"`{target}` is there already; name a new folder.")
    config = run.config()
    temporary = target.with_name(HIDDEN + target.name)
    with naming(target):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        if config.student.lora is None:
            shutil.copytree(path, temporary, ignore=shutil.ignore_patterns(*TRAINING_FILES))
        else:
            temporary.mkdir()
            from zppo.student.local import LocalStudent

            student = LocalStudent.from_config(config)
            student.load(path, optimizer=False)
            student.export(temporary)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    return target
