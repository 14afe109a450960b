"""The lab's tokenizer, checkpoints and training examples."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer

from zppo.algorithm.prompts import Templates
from zppo.lab import puzzles
from zppo.lab.examples import ExampleMaker, Puzzle, collate, rotary_positions
from zppo.lab.models import (
    SHAPES,
    SPECIAL_TOKENS,
    image_processor,
    new_model,
    new_tokenizer,
    save,
    special_ids,
)
from zppo.student.inputs import PromptEncoder
from zppo.types import GroupKind, Prompt


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = new_model(SHAPES["student"], len(tokenizer), special_ids(tokenizer))
    path = tmp_path_factory.mktemp("lab") / "model"
    save(model, tokenizer, path)
    return path


def test_tokenizer_round_trip_and_single_digits(tokenizer):
    templates = Templates.default()
    for question in puzzles.questions("train")[:20]:
        for text in (templates.plain(question), question.reference or "", "é\x00漢 <think>\n\t"):
            assert tokenizer.decode(tokenizer(text).input_ids) == text
    for digit in "0123456789":
        assert len(tokenizer(digit).input_ids) == 1
    assert len(tokenizer("38591").input_ids) == 5
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(token).input_ids) == 1


def test_tokenizer_is_the_same_each_time(tokenizer):
    assert new_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_checkpoint_loads_with_plain_from_pretrained(folder: Path, tokenizer):
    loaded = AutoTokenizer.from_pretrained(folder)
    question = puzzles.questions("train")[0]
    text = Templates.default().ncq(question, ["1", "22"], [question.reference or ""])
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert (loaded.padding_side, loaded.eos_token, loaded.pad_token) == (
        "left",
        "<|im_end|>",
        "<|endoftext|>",
    )
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.generation_config.eos_token_id == loaded.eos_token_id
    weight = model.get_output_embeddings().weight
    assert weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_chat_template_puts_media_first(tokenizer):
    content = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "hi"}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        "<|vision_start|><|video_pad|><|vision_end|>hi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("source", ["text/5", "image/6", "video/4", "video/8"])
def test_training_examples_equal_the_engines_prompts(source: str, folder: Path, tokenizer):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    encoder = PromptEncoder(tokenizer, model, image_processor())
    question = next(q for q in puzzles.questions("validation") if q.source == source)
    maker = ExampleMaker(tokenizer)
    encoded = encoder.encode(Prompt(question, GroupKind.PLAIN, maker.templates.plain(question)))
    batch = encoder.collate([encoded], "cpu")

    digits = puzzles.trace_digits(question.reference or "")
    example = maker.plain(Puzzle(source.split("/")[0], digits), random.Random(0))
    n = len(encoded)
    assert example.ids[:n] == list(encoded.ids)
    assert tokenizer.decode(example.ids[n:]) == (question.reference or "") + "<|im_end|>"
    assert (rotary_positions(example.types)[:, :n] == batch.positions[:, 0].numpy()).all()
    inputs, labels = collate([example], tokenizer.pad_token_id)
    assert int((labels != -100).sum()) == len(example.ids) - n
    for name, grid in (("images", "image_grid_thw"), ("videos", "video_grid_thw")):
        for pixels, shape in getattr(encoded, name):
            assert inputs[grid].tolist() == [shape.tolist()]
            assert example.patches is not None and pixels.shape == example.patches.shape


def test_cell_patches_equal_the_processors(tokenizer):
    """A row put together from cells has the pixels of the row drawn as one picture."""
    schemes = [(a, b) for d in puzzles.DARK for p in puzzles.LIGHT for a, b in ((d, p), (p, d))]
    maker = ExampleMaker(tokenizer)
    png = puzzles.cells_png((3, 8, 0), (schemes[4], schemes[0], schemes[9]))
    drawn = image_processor()([Image.open(BytesIO(png)).convert("RGB")], return_tensors="np")
    joined = np.concatenate([maker.cells[3, 4], maker.cells[8, 0], maker.cells[0, 9]])
    np.testing.assert_allclose(drawn["pixel_values"], joined, atol=1e-6)
