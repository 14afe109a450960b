"""zppo: Zone of Proximal Policy Optimization (arXiv:2606.18216).

The teacher acts in the prompt, never in the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zppo.config import Config, load_config

if TYPE_CHECKING:
    from zppo.runs.train import evaluate, train

__version__ = "0.1.0"
__all__ = ["Config", "__version__", "evaluate", "load_config", "train"]


def __getattr__(name: str) -> Any:
    # train and evaluate import torch; a config or `--help` must not wait for it.
    if name in ("train", "evaluate"):
        from zppo.runs import train as module

        return getattr(module, name)
    raise AttributeError(name)
