"""A small Hugging Face rollout server for verl's registry. Test support: one request at a time,
in plain transformers, so that what it samples depends on the request's seed alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from typing import Any

import ray
import torch
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput


class _Server:
    """A model in fp32 that answers `generate` and takes weights. `fault` makes it misbehave:
    "refuse:N" fails every Nth request, "stale" keeps the weights it has."""

    def __init__(self, path: str) -> None:
        import transformers

        config = transformers.AutoConfig.from_pretrained(path)
        auto = (
            transformers.AutoModelForImageTextToText
            if hasattr(config, "vision_config")
            else transformers.AutoModelForCausalLM
        )
        torch.set_num_threads(1)
        self.model = auto.from_pretrained(path, dtype=torch.float32).eval()
        self.config = self.model.config
        self.asleep = True
        self.requests = 0
        self.fault = ""

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        assert not self.asleep, "asked while asleep"
        self.requests += 1
        kind, _, every = self.fault.partition(":")
        if kind == "refuse" and self.requests % int(every) == 0:
            raise ValueError("refused on order")
        await asyncio.sleep(0)
        return self._sample(prompt_ids, sampling_params)

    @torch.no_grad()
    def _sample(self, prompt_ids: list[int], params: dict[str, Any]) -> TokenOutput:
        generator = torch.Generator().manual_seed(params.get("seed", 0))
        ids, cache = torch.tensor([prompt_ids]), None
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < params["max_tokens"]:
            out = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits = out.logits[0, -1].float()
            for banned, bias in params.get("logit_bias", {}).items():
                logits[int(banned)] += bias
            greedy = params["temperature"] == 0
            scores = (logits / (1.0 if greedy else params["temperature"])).log_softmax(-1)
            if greedy:
                token = int(scores.argmax())
            else:
                kept = _truncated(scores, params["top_k"], params["top_p"])
                token = int(torch.multinomial(kept.exp(), 1, generator=generator))
            tokens.append(token)
            logprobs.append(float(scores[token]))
            if token in params["stop_token_ids"]:
                break
            ids = torch.tensor([[token]])
        return TokenOutput(token_ids=tokens, log_probs=logprobs, stop_reason="completed")

    async def load(self, weights: dict[str, torch.Tensor]) -> None:
        if self.fault == "stale":
            return
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)

    async def misbehave(self, fault: str) -> None:
        self.fault, self.requests = fault, 0

    async def wake_up(self) -> None:
        self.asleep = False

    async def sleep(self) -> None:
        self.asleep = True


def _truncated(scores: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    values, order = scores.sort(descending=True)
    before = values.exp().cumsum(-1) - values.exp()
    drop = before >= top_p
    if top_k > 0:
        drop[top_k:] = True
    return scores.index_fill(-1, order[drop], float("-inf"))


class HFReplica(RolloutReplica):
    async def launch_servers(self) -> None:
        path = self.model_config.path
        server = ray.remote(_Server).options(
            name=f"hf_server_{self.replica_rank}", num_cpus=0, max_concurrency=1_000
        )
        self.servers = [server.remote(path)]
        await self.servers[0].sleep.remote()
        self._server_handle = self.servers[0]
        self._server_address = f"hf:{self.replica_rank}"


class HFAdapter(BaseRollout):
    """The trainer's end: every rank gathers the weights, the first of a replica sends them."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, **_: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        self.rank = int(os.environ["RANK"])
        self.server: Any = None

    def _handle(self) -> Any:
        if self.server is None:
            self.server = ray.get_actor(f"hf_server_{self.rank}")
        return self.server

    async def resume(self, tags: list[str]) -> None:
        if "kv_cache" in tags:
            await self._handle().wake_up.remote()

    async def update_weights(self, weights: Generator[tuple[str, torch.Tensor]], **_: Any) -> None:
        found = {name: tensor.detach().cpu().clone() for name, tensor in weights}
        await self._handle().load.remote(found)

    async def release(self) -> None:
        await self._handle().sleep.remote()


RolloutReplicaRegistry.register("hf", lambda: HFReplica)
_ROLLOUT_REGISTRY[("hf", "async")] = "verl_cpu_rollout.HFAdapter"


def _vllm() -> type[RolloutReplica]:
    from verl_cpu_vllm import Replica

    return Replica


RolloutReplicaRegistry.register("vllm", _vllm)
