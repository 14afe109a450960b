"""zppo: Zone of Proximal Policy Optimization (arXiv:2606.18216).

The teacher acts in the prompt, never in the gradient.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zppo.config import Config, load_config
    from zppo.runs.train import evaluate, resume, train

__version__ = "0.1.0"
__all__ = ["Config", "__version__", "evaluate", "load_config", "resume", "train"]

# Imported at first use: `zppo --help` must not wait for pydantic, nor a config for torch.
_HOMES = {
    "Config": "zppo.config",
    "load_config": "zppo.config",
    "evaluate": "zppo.runs.train",
    "resume": "zppo.runs.train",
    "train": "zppo.runs.train",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module `zppo` has no attribute `{name}`")
