"""vLLM's CPU build as verl's rollout server. Test support: verl's own server, but for the way in
which weights reach layers that are packed for a CPU."""

from __future__ import annotations

from typing import Any

import ray
import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica


class Extension(vLLMColocateWorkerExtension):
    """Runs in vLLM's worker."""

    def update_weights_from_ipc(self, use_shm: bool = False, **_: Any) -> None:
        kept: list[tuple[str, torch.Tensor]] = []

        def keep(weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
            kept.extend((name, tensor.clone()) for name, tensor in weights)

        receiver = BucketedWeightReceiver(
            zmq_handle=self._get_zmq_handle(), device=torch.device("cpu"), use_shm=use_shm
        )
        receiver.receive_weights(on_bucket_received=keep)
        self.model_runner.reload_weights(weights_iterator=iter(kept))


class Server(vLLMHttpServer):
    def _get_worker_extension_cls(self) -> str:
        return "verl_cpu_vllm.Extension"


class Replica(vLLMReplica):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(Server)
