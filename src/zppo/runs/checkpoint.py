"""Checkpoints that are whole or not there.

A checkpoint is written into a hidden folder beside its place, flushed to the disk and renamed. So
a folder with a plain name is complete, and a kill at any moment leaves at most a hidden leftover
that the next resume sweeps away.

    checkpoints/step-000010/
        model, tokenizer, optimizer.pt   what `student.save` writes; `from_pretrained` reads it
        verl/                            sharded state, in place of optimizer.pt: the cluster engine
        buffer.jsonl                     the replay buffer: its settings, then one line a question
        state.json                       step, config hash, versions, data hash, the NCQ gate's
                                         average, sizes of all files
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zppo.algorithm.buffer import BufferEntry, PromptReplayBuffer
from zppo.algorithm.gate import NcqGate
from zppo.config import Config, dump_config
from zppo.errors import RunError
from zppo.runs.directory import RunDirectory, step_name, step_of
from zppo.runs.files import HIDDEN, discard, naming, remove_leftovers, sync_folder, sync_tree
from zppo.runs.media import MediaStore
from zppo.serialization import question_from_dict, question_to_dict
from zppo.student.base import Student
from zppo.types import Question

STATE, BUFFER = "state.json", "buffer.jsonl"
#: Files of a checkpoint that only a resume needs; the rest is a plain Hugging Face model.
TRAINING_FILES = (STATE, BUFFER, "optimizer.pt", "verl")


def save_checkpoint(
    run: RunDirectory,
    step: int,
    student: Student,
    buffer: PromptReplayBuffer,
    config: Config,
    data_hash: str,
    gate: NcqGate | None = None,
) -> Path:
    """Write the state after `step`. Raises `RunError`; then the older checkpoints are as before."""
    final = run.checkpoints / step_name(step)
    temporary = run.checkpoints / (HIDDEN + final.name)
    shutil.rmtree(temporary, ignore_errors=True)
    with naming(temporary):
        temporary.mkdir(parents=True)
    try:
        student.save(temporary)
        _write_buffer(temporary / BUFFER, buffer, run.media)
        state = {
            "step": step,
            "metrics_lines": step,
            "config_sha256": config_hash(config),
            "data_sha256": data_hash,
            "ncq_gate": (gate or NcqGate()).state_dict(),
            "versions": _versions(),
            "files": _sizes(temporary),
        }
        (temporary / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        sync_tree(temporary)
        if final.exists():
            discard(final)
        os.rename(temporary, final)
        sync_folder(run.checkpoints)
    except Exception as error:  # safetensors and torch report a full disk each in their own way
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(_save_failed(final, error)) from error
    return final


def load_checkpoint(
    path: Path,
    run: RunDirectory,
    student: Student,
    buffer: PromptReplayBuffer,
    gate: NcqGate | None = None,
) -> None:
    """Restore what `save_checkpoint` wrote. Raises `RunError` when it cannot be read."""
    student.load(path)
    buffer.load_state_dict(_read_buffer(path / BUFFER, run.media))
    saved = read_state(path).get("ncq_gate")  # checkpoints of older versions have none
    if gate and saved:
        gate.load_state_dict(saved)


def checkpoints(run: RunDirectory) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [p for p in run.checkpoints.glob("step-*") if step_of(p) >= 0 and _is_whole(p)]
    return sorted(found, key=step_of)


def latest(run: RunDirectory) -> Path | None:
    """The newest complete checkpoint, None where there is none."""
    return (checkpoints(run) or [None])[-1]


def best(run: RunDirectory) -> Path | None:
    """The checkpoint with the highest validation accuracy (the newest of equals)."""
    accuracy = {row["step"]: row["accuracy"].get("all") for row in run.evaluations()}
    scored = [p for p in checkpoints(run) if accuracy.get(step_of(p)) is not None]
    return max(scored, key=lambda p: (accuracy[step_of(p)], step_of(p)), default=None)


def find_checkpoint(run: RunDirectory, name: str) -> Path:
    """The checkpoint of a run called `latest`, `best`, or by its step. Raises `RunError`."""
    steps = {str(step_of(p)): p for p in checkpoints(run)}
    if name == "best":
        path = best(run) or latest(run)  # without evaluations the newest is as good as any
    else:
        path = latest(run) if name == "latest" else steps.get(name)
    if path is None:
        have = ", ".join(steps) or "none"
        raise RunError(f"`{run.root}` has no checkpoint `{name}`; steps with one: {have}.")
    return path


def rotate(run: RunDirectory, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best one. Called once the newest is in
    place, so there is never a moment without one."""
    kept = {*checkpoints(run)[-keep:], best(run)}
    for path in run.checkpoints.glob("step-*"):
        if path not in kept:
            with naming(path, "remove"):
                discard(path)


def sweep(run: RunDirectory) -> None:
    """Remove what killed saves and deletions left."""
    remove_leftovers(run.checkpoints)


def read_state(path: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint. Raises `RunError`."""
    with naming(path / STATE, "read"):
        return json.loads((path / STATE).read_text(encoding="utf-8"))


def read_buffer(path: Path, media: MediaStore) -> tuple[BufferEntry, ...]:
    """The replay buffer saved in the checkpoint `path`, oldest first. Raises `RunError`."""
    state = _read_buffer(path / BUFFER, media)
    buffer = PromptReplayBuffer(state["capacity"], state["threshold"])
    buffer.load_state_dict(state)
    return buffer.entries


def check_resumable(path: Path, config: Config, data_hash: str) -> list[str]:
    """What differs between then and now, as warnings.

    Raises `RunError` where going on could not be the same run: other training data.
    """
    state = read_state(path)
    if state["data_sha256"] != data_hash:
        raise RunError(
            f"The training data is not what `{path}` was trained on (data.train="
            f"{config.data.train}); restore it, or start a new run with `zppo train`."
        )
    warnings = [
        f"{name} was {then}, now {now}; the numbers may differ in the last digits."
        for name, then in state["versions"].items()
        if (now := _versions().get(name)) != then
    ]
    if state["config_sha256"] != config_hash(config):
        warnings.insert(0, "The config was changed since the checkpoint was written.")
    return warnings


def config_hash(config: Config) -> str:
    """Identifies every setting that shapes the numbers: all but the `run` section."""
    shaping = config.model_copy(update={"run": type(config.run)()})
    return hashlib.sha256(dump_config(shaping).encode("utf-8")).hexdigest()


def questions_hash(questions: Sequence[Question]) -> str:
    """Identifies the training questions and their order."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(json.dumps([question.id, question.text, question.answer]).encode("utf-8"))
    return digest.hexdigest()


# --- the buffer -----------------------------------------------------------------------------------


def _write_buffer(path: Path, buffer: PromptReplayBuffer, media: MediaStore) -> None:
    settings = {"capacity": buffer.capacity, "threshold": buffer.threshold}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(settings) + "\n")
        for entry in buffer.entries:
            file.write(json.dumps(_entry_to_dict(entry, media)) + "\n")


def _entry_to_dict(entry: BufferEntry, media: MediaStore) -> dict[str, Any]:
    bare = question_to_dict(dataclasses.replace(entry.question, media=()))
    row = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    return row | {
        "question": bare | {"media": [media.to_dict(item) for item in entry.question.media]}
    }


def _read_buffer(path: Path, media: MediaStore) -> dict[str, Any]:
    """The state that `PromptReplayBuffer.load_state_dict` takes."""
    with naming(path, "read"):
        lines = path.read_text(encoding="utf-8").splitlines()
    try:
        settings, *rows = [json.loads(line) for line in lines]
        return settings | {"entries": [_restored(row, media) for row in rows]}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"`{path}` cannot be read: {error!r}") from None


def _restored(row: Mapping[str, Any], media: MediaStore) -> dict[str, Any]:
    saved = row["question"]
    items = tuple(media.from_dict(item) for item in saved["media"])
    question = dataclasses.replace(question_from_dict(saved | {"media": []}), media=items)
    return {**row, "question": question_to_dict(question)}


# --- wholeness ------------------------------------------------------------------------------------


def _sizes(folder: Path) -> dict[str, int]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.stat().st_size for p in files}


def _is_whole(path: Path) -> bool:
    """The rename vouches for the files; this finds those that were deleted or cut afterwards."""
    try:
        expected = json.loads((path / STATE).read_text(encoding="utf-8"))["files"]
        return all((path / name).stat().st_size == size for name, size in expected.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("zppo", "torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _save_failed(path: Path, error: Exception) -> str:
    free = shutil.disk_usage(path.parent).free / 2**30
    return (
        f"Cannot write checkpoint `{path}`: {error} ({free:.1f} GiB free there). The checkpoints "
        "before it are untouched; free some space and go on with `zppo resume`."
    )
