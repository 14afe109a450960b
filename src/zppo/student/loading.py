"""Load a transformers checkpoint with the errors a user can act on."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
)

# Older releases hide it from `transformers` itself where torchvision, which it may do without, is
# not installed.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from zppo.errors import ModelError
from zppo.lab import MODELS, model_path
from zppo.student.attention import can_share_attention, share_attention
from zppo.student.cpu import tune_for_cpu

log = logging.getLogger(__name__)

DeviceName = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "fp32", "bf16"]
_HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint in memory. `image_processor` is None for text models."""

    model: Any
    tokenizer: Any
    image_processor: Any | None
    device: torch.device

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a turn: the tokenizer's and the generation config's."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return sorted({i for i in (*ids, self.tokenizer.eos_token_id) if i is not None})


def resolve_device(name: DeviceName) -> torch.device:
    """Raises `ModelError` when a GPU is asked for and there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("device=cuda, but torch sees no CUDA device; use device=auto or cpu.")
    return torch.device(name)


def resolve_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if name == "bf16" else torch.float32


def resolve_path(model: str) -> tuple[str, str | None]:
    """(folder or hub id, GGUF file name or None). Those of the lab are shipped."""
    if model in MODELS:
        return str(model_path(MODELS[model])), None
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"There is no GGUF file `{model}`.")
        return str(path.parent), path.name
    if not path.exists() and not _HUB_ID.fullmatch(model):
        raise ModelError(f"There is no folder `{model}`, and it cannot be a hub id (`owner/name`).")
    return model, None


def load_model(
    model: str,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    weights: bool = True,
) -> LoadedModel:
    """Load model, tokenizer and (for a vision model) image processor. Without `weights` the model
    is an outline that takes no memory, for an engine that has them elsewhere.

    Raises `ModelError` naming the model and what is missing.
    """
    where, gguf = resolve_path(model)
    target = resolve_device(device)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if gguf:
        options["gguf_file"] = gguf
    part = "its config"
    try:
        config = AutoConfig.from_pretrained(where, **options)
        vision = hasattr(config, "vision_config")
        part = "its weights"
        loader = AutoModelForImageTextToText if vision else AutoModelForCausalLM
        if weights:
            net: Any = loader.from_pretrained(where, dtype=resolve_dtype(dtype, target), **options)
        else:
            net = _outline(loader, config, where)
        part = "its tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(where, padding_side="left", **options)
        part = "its image processor"
        # Pillow also where torchvision is installed: the same pixels everywhere.
        image_processor = (
            AutoImageProcessor.from_pretrained(
                where, backend="pil", trust_remote_code=trust_remote_code
            )
            if vision
            else None
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"Cannot load model `{model}`, {part}: {error}") from error
    _forget_quantization(net)
    _refuse_scaled_logits(model, net.config)
    if chat_template is not None:
        tokenizer.chat_template = _read_template(chat_template)
    _settle_padding(model, tokenizer)
    if weights:
        if can_share_attention(net.config):
            share_attention(net.config)
        if target.type == "cpu":
            tune_for_cpu(net)
        net = net.to(target)
    loaded = LoadedModel(net.eval(), tokenizer, image_processor, target)
    if not loaded.stop_ids:
        raise ModelError(
            f"Neither the tokenizer nor the generation config of `{model}` names an eos token; "
            "no response could ever end. Set it in its tokenizer_config.json."
        )
    return loaded


def _outline(loader: Any, config: Any, where: str) -> Any:
    """The model with parameters of the right shape and no content."""
    with torch.device("meta"):
        net = loader.from_config(config)
    # A checkpoint need not have a generation config.
    with suppress(OSError):
        net.generation_config = GenerationConfig.from_pretrained(where)
    return net


def _forget_quantization(net: Any) -> None:
    """A GGUF is de-quantised while it loads; what remains of its origin stops a normal save."""
    if getattr(net.config, "quantization_config", None) is not None and not any(
        "quant" in type(m).__module__ for m in net.modules()
    ):
        del net.config.quantization_config
        net.hf_quantizer = None
        net.is_quantized = False


def _refuse_scaled_logits(name: str, config: Any) -> None:
    """We call the LM head ourselves, so a model that changes its logits afterwards is not ours."""
    text = config.get_text_config()
    for key in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(text, key, None) not in (None, 1, 1.0):
            raise ModelError(
                f"`{name}` transforms its logits ({key}={getattr(text, key)}), which the "
                "embedded engine does not support."
            )


def _read_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"student.chat_template: cannot read `{path}`: {error}") from None


def _settle_padding(name: str, tokenizer: Any) -> None:
    if tokenizer.pad_token_id is not None:
        return
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"The tokenizer of `{name}` has neither a pad nor an eos token; set them in its "
            "tokenizer_config.json."
        )
    # Every padded position is masked in every forward, so which token fills it changes nothing.
    log.info("The tokenizer of `%s` has no pad token; padding with its eos token.", name)
    tokenizer.pad_token = tokenizer.eos_token
