"""What runs on each of verl's ranks: functions of verl's worker, sent there by name."""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def apply_optimizer_settings(worker: Any, settings: Mapping[str, Any]) -> None:
    """A loaded optimiser brings the settings it was saved with; a resumed run may have others."""
    engine = worker.actor.engine
    for group in engine.optimizer.param_groups:
        group.update(settings, initial_lr=settings["lr"])
    scheduler = engine.lr_scheduler
    scheduler.base_lrs = [settings["lr"]] * len(scheduler.base_lrs)


def write_model(worker: Any, folder: str, dtype: str) -> None:
    """The model as a plain Hugging Face checkpoint in `dtype`, its tokenizer not included. All
    ranks gather it, tensor by tensor; the first one writes."""
    import torch
    from verl.utils.model import get_hf_auto_model_class

    engine = worker.actor.engine
    config = engine.model_config.hf_config
    with torch.device("meta"):
        model = get_hf_auto_model_class(hf_config=config).from_config(config)
    model = model.to(getattr(torch, dtype))
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    tensors, _ = engine.get_per_tensor_param()
    kept = {
        name: tensor.detach().to("cpu", model.dtype)
        for name, tensor in tensors
        if worker.rank == 0 and name not in tied
    }
    if worker.rank == 0:
        model.save_pretrained(folder, state_dict=kept)
        if engine.model_config.generation_config is not None:
            engine.model_config.generation_config.save_pretrained(folder)


def load_resharded(worker: Any, folder: str, written: int) -> None:
    """Load a checkpoint of FSDP2 that `written` ranks wrote, on another number of them.

    A rank reads all files one after the other and keeps what is its own.
    """
    import torch

    engine = worker.actor.engine

    def shards(kind: str) -> list[Any]:
        names = [f"{kind}_world_size_{written}_rank_{rank}.pt" for rank in range(written)]
        return [
            torch.load(Path(folder) / name, map_location="cpu", weights_only=False, mmap=True)
            for name in names
        ]

    saved = shards("model")
    own = engine.module.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(_resharded([part[name] for part in saved], tensor))

    saved = shards("optim")
    parameters = [p for group in engine.optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for index in saved[0]["state"]:
        state[index] = {
            key: _resharded([part["state"][index][key] for part in saved], parameters[index])
            for key in saved[0]["state"][index]
        }
    groups = engine.optimizer.state_dict()["param_groups"]
    engine.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _resharded(parts: list[Any], like: Any) -> Any:
    """The tensor whose old shards are `parts`, laid out as `like`."""
    import torch
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    if not isinstance(parts[0], DTensor):
        return parts[0]  # a scalar such as the number of steps, the same everywhere
    [placement] = parts[0].placements
    local = [part._local_tensor for part in parts]
    whole = torch.cat(local, dim=placement.dim) if isinstance(placement, Shard) else local[0]
    whole = whole.to(like.device)
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
