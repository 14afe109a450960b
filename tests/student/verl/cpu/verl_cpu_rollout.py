"""A small Hugging Face rollout server for verl's registry. Test support: one request at a time,
in plain transformers, so that what it samples depends on the request's seed alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
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
        self.reader = Reader(path, self.model) if hasattr(config, "vision_config") else None
        self.asleep = True
        self.requests = 0
        self.fault = ""

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        image_data: list[Any] | None = None,
        video_data: list[Any] | None = None,
        **_: Any,
    ) -> TokenOutput:
        assert not self.asleep, "asked while asleep"
        self.requests += 1
        kind, _, every = self.fault.partition(":")
        if kind == "refuse" and self.requests % int(every) == 0:
            raise ValueError("refused on order")
        await asyncio.sleep(0)
        inputs: dict[str, Any] = {"input_ids": torch.tensor([prompt_ids])}
        last = None
        if self.reader is not None:
            inputs, last = self.reader.inputs(prompt_ids, image_data or [], video_data or [])
        return self._sample(inputs, last, sampling_params)

    @torch.no_grad()
    def _sample(
        self, inputs: dict[str, Any], last: torch.Tensor | None, params: dict[str, Any]
    ) -> TokenOutput:
        """`last` (3, 1, 1) is the position of the prompt's last token, where positions are
        multimodal."""
        generator = torch.Generator().manual_seed(params.get("seed", 0))
        cache = None
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < params["max_tokens"]:
            out = self.model(**inputs, past_key_values=cache, use_cache=True)
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
            inputs = {"input_ids": torch.tensor([[token]])}
            if last is not None:
                inputs["position_ids"] = last + len(tokens)
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


class Reader:
    """Prompts with media of a Qwen3.5, as vLLM reads them: an image's placeholder becomes as many
    as it has tokens; a video's becomes frames with their times, starts and ends."""

    def __init__(self, path: str, model: Any) -> None:
        import transformers
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        self.model, self.config = model, model.config
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        self.processor = AutoImageProcessor.from_pretrained(path, backend="pil")

    def inputs(
        self, ids: list[int], images: list[Any], videos: list[Any]
    ) -> tuple[dict[str, Any], torch.Tensor]:
        c = self.config
        visual = (c.image_token_id, c.video_token_id)
        ids = [t for i, t in enumerate(ids) if not (t in visual and i and ids[i - 1] == t)]
        found: dict[str, Any] = {}
        if images:
            made = self.processor(images=images, return_tensors="pt", do_resize=False)
            found |= {k: made[k] for k in ("pixel_values", "image_grid_thw")}
        if videos:
            pairs = [self._patches(frames) for frames, _ in videos]
            found["pixel_values_videos"] = torch.cat([patches for patches, _ in pairs])
            found["video_grid_thw"] = torch.stack([grid for _, grid in pairs])
        grids = iter(found.get("image_grid_thw", ()))
        whole: list[int] = []
        left = iter(zip(videos, found.get("video_grid_thw", ()), strict=True))
        for token in ids:
            if token == c.image_token_id:
                whole += [token] * self._tokens(next(grids))
            elif token == c.video_token_id:
                (_, metadata), grid = next(left)
                whole += self._frames(metadata, grid)
            else:
                whole.append(token)
        input_ids = torch.tensor([whole])
        types = (input_ids == c.image_token_id) + 2 * (input_ids == c.video_token_id)
        positions, _ = self.model.model.get_rope_index(
            input_ids,
            mm_token_type_ids=types,
            attention_mask=torch.ones_like(input_ids),
            **{k: found.get(k) for k in ("image_grid_thw", "video_grid_thw")},
        )
        found |= {"input_ids": input_ids, "position_ids": positions}
        if images or videos:
            found["mm_token_type_ids"] = types
        return found, positions[..., -1:].amax(0, keepdim=True).expand(3, -1, -1)

    def _patches(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each frame as of an image, then the frames of a patch side by side: an image is its
        own copy as often as a patch has frames."""
        p, depth = self.processor, self.processor.temporal_patch_size
        frames = np.concatenate([frames, np.repeat(frames[-1:], -len(frames) % depth, axis=0)])
        made = p(images=[Image.fromarray(f) for f in frames], return_tensors="pt", do_resize=False)
        _, rows, columns = made["image_grid_thw"][0].tolist()
        copies = made["pixel_values"].view(
            -1, depth, rows * columns, 3, depth, p.patch_size, p.patch_size
        )
        patches = torch.stack([copies[:, i, :, :, 0] for i in range(depth)], dim=3)
        return patches.flatten(0, 1).flatten(1), torch.tensor([len(copies), rows, columns])

    def _tokens(self, grid: torch.Tensor) -> int:
        return int(grid[1:].prod()) // self.processor.merge_size**2

    def _frames(self, metadata: dict[str, Any], grid: torch.Tensor) -> list[int]:
        assert metadata["do_sample_frames"] is False
        times = [i / metadata["fps"] for i in metadata["frames_indices"]]
        depth = self.processor.temporal_patch_size
        times += times[-1:] * (-len(times) % depth)
        c = self.config
        pads = [c.video_token_id] * self._tokens(grid)
        found: list[int] = []
        for first, last in zip(times[::depth], times[depth - 1 :: depth], strict=True):
            stamp = f"<{(first + last) / 2:.1f} seconds>"
            found += self.tokenizer(stamp, add_special_tokens=False)["input_ids"]
            found += [c.vision_start_token_id, *pads, c.vision_end_token_id]
        return found


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
