"""What makes a transformers model faster on a CPU without changing what it computes."""

from __future__ import annotations

from functools import partial
from typing import Any

from zppo.student.flat_delta import DELTA_CHUNK, delta_layers, run_flat
from zppo.student.linear import onednn_is_faster, use_onednn
from zppo.student.malloc import keep_freed_memory
from zppo.student.mlp import use_chunked_mlps
from zppo.student.norm import use_fused_norms
from zppo.student.rotary import use_fused_rotation


def tune_for_cpu(model: Any) -> None:
    """Set up a model that stays on the CPU."""
    keep_freed_memory()
    if onednn_is_faster():
        use_onednn(model)
    use_fused_norms(model)
    use_chunked_mlps(model)
    use_fused_rotation(model)
    if shorten_delta_chunks(model):
        run_flat(model)
        from zppo.student.delta import use_in_place_step  # loads Qwen3.5's code

        use_in_place_step()


def shorten_delta_chunks(model: Any) -> bool:
    """Run a model's gated delta rule in chunks of `DELTA_CHUNK`; whether it has one."""
    layers = delta_layers(model)
    for layer in layers:
        # The layer hands keyword arguments on to the delta rule.
        layer.forward = partial(layer.forward, chunk_size=DELTA_CHUNK)
    return bool(layers)
