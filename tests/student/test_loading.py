"""What cannot be loaded is an error that names the model and what it lacks."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests import tiny
from zppo.errors import ModelError
from zppo.student.loading import load_model, resolve_device, resolve_dtype, resolve_path


def write(folder, kind="llama", tokenizer=None):
    parts = tiny.loaded(kind)
    parts.model.save_pretrained(folder)
    if tokenizer is not False:
        (tokenizer or parts.tokenizer).save_pretrained(folder)
    if parts.image_processor is not None:
        parts.image_processor.save_pretrained(folder)
    return str(folder)


def edit(file, **changes):
    content = json.loads(file.read_text())
    content.update(changes)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("kind", ["llama", "vlm"])
def test_a_folder_loads_on_the_device_and_dtype_asked_for(kind, tmp_path):
    loaded = load_model(write(tmp_path, kind), "cpu", "bf16")
    assert loaded.device == torch.device("cpu") and not loaded.model.training
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.tokenizer.padding_side == "left"
    assert (loaded.image_processor is not None) == (kind == "vlm")
    assert loaded.stop_ids == [loaded.tokenizer.eos_token_id]


def test_an_image_processor_of_torchvision_is_read_by_pillow(tmp_path):
    path = write(tmp_path, "vlm")
    edit(tmp_path / "preprocessor_config.json", image_processor_type="Qwen2VLImageProcessorFast")
    assert type(load_model(path).image_processor).__name__ == "Qwen2VLImageProcessorPil"


@pytest.mark.parametrize("model", ["/no/such/folder", "./nope", "a/b/c"])
def test_an_unknown_folder_is_named(model):
    with pytest.raises(ModelError, match=f"no folder `{model}`"):
        load_model(model)


@pytest.mark.parametrize("model", ["Qwen/Qwen3.5-2B", "gpt2", "HuggingFaceTB/SmolLM2-135M"])
def test_hub_ids_are_left_to_transformers(model):
    assert resolve_path(model) == (model, None)


def test_an_unreachable_hub_is_a_model_error(monkeypatch):
    from zppo.student import loading

    def unreachable(*args, **kwargs):
        raise OSError("We couldn't connect")

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(ModelError, match=r"`owner/name`, its config: We couldn't connect"):
        load_model("owner/name")


def test_an_empty_folder_and_one_without_weights(tmp_path):
    with pytest.raises(ModelError, match="its config"):
        load_model(str(tmp_path))
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="its weights"):
        load_model(str(tmp_path))


def test_a_folder_without_tokenizer(tmp_path):
    with pytest.raises(ModelError, match="its tokenizer"):
        load_model(write(tmp_path, tokenizer=False))


def test_a_vision_model_without_image_processor(tmp_path):
    write(tmp_path, "vlm")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="its image processor"):
        load_model(str(tmp_path))


def bare_tokenizer(**special):
    """A tokenizer without special tokens of its own; Qwen's class brings defaults."""
    backend = tiny.tokenizer().backend_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template="x", **special)


def test_padding_falls_back_to_the_eos_token(tmp_path):
    path = write(tmp_path / "eos", tokenizer=bare_tokenizer(eos_token="<|im_end|>"))
    tokenizer = load_model(path).tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id is not None
    path = write(tmp_path / "neither", tokenizer=bare_tokenizer())
    with pytest.raises(ModelError, match="neither a pad nor an eos token"):
        load_model(path)


def test_a_model_that_can_never_stop_is_refused(tmp_path):
    path = write(tmp_path, tokenizer=bare_tokenizer(pad_token="<|endoftext|>"))
    assert load_model(path).stop_ids  # the generation config names one
    (tmp_path / "generation_config.json").unlink()
    edit(tmp_path / "config.json", eos_token_id=None)
    with pytest.raises(ModelError, match="no response could ever end"):
        load_model(path)


@pytest.mark.parametrize("key", ["final_logit_softcapping", "logit_scale", "logits_scaling"])
def test_models_that_transform_their_logits_are_refused(key, tmp_path):
    config = LlamaConfig(
        vocab_size=len(tiny.tokenizer()),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    setattr(config, key, 30.0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"{key}=30\.0"):
        load_model(str(tmp_path))
    edit(tmp_path / "config.json", **{key: 1.0})
    load_model(str(tmp_path))


def test_a_missing_gguf_file_is_named():
    with pytest.raises(ModelError, match=r"no GGUF file `/no/such/model\.gguf`"):
        load_model("/no/such/model.gguf")


def test_chat_templates_come_from_a_file(tmp_path):
    path = write(tmp_path)
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages[0].content }}!")
    assert load_model(path, chat_template=str(template)).tokenizer.chat_template.endswith("!")
    with pytest.raises(ModelError, match=r"student\.chat_template: cannot read"):
        load_model(path, chat_template=str(tmp_path / "missing.jinja"))


def test_devices_and_dtypes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(ModelError, match="device=cuda, but torch sees no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_dtype("auto", cpu) == resolve_dtype("fp32", cuda) == torch.float32
    assert resolve_dtype("auto", cuda) == resolve_dtype("bf16", cpu) == torch.bfloat16
