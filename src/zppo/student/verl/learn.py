"""What a rank does with its rows: verl's tensors of them, and verl's own calls."""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import Any

import numpy as np

from zppo.student.verl.batch import (
    Rows,
    forward_inputs,
    logprob_options,
    loss_inputs,
    response_logprobs,
)


def score(worker: Any, rows: Rows, temperature: float) -> np.ndarray | None:
    """(sum of lengths,) float32 log-probs of the responses under the trainer's weights. None on a
    rank that shares its sequences with the one that answers."""
    from verl.utils import tensordict_utils as tu

    data = tu.get_tensordict(forward_inputs(rows), logprob_options(temperature))
    output = worker.compute_log_prob(data)
    return None if output is None else response_logprobs(rows, output["log_probs"])


def learn(
    worker: Any, rows: Rows, old_logprobs: np.ndarray, options: dict[str, Any]
) -> dict[str, Any] | None:
    """verl's metrics of the updates, one mini-batch after the other; None as in `score`."""
    from verl.utils import tensordict_utils as tu

    data = tu.get_tensordict(forward_inputs(rows) | loss_inputs(rows, old_logprobs), dict(options))
    output = worker.update_actor(data)
    return None if output is None else tu.get(output, "metrics")
