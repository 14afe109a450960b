"""The shipped checkpoints: loadable, small, and able to do what the lab needs them for."""

from __future__ import annotations

import pytest
from transformers import AutoModelForImageTextToText, AutoTokenizer

from zppo.algorithm.prompts import Templates
from zppo.lab import model_path
from zppo.lab.examples import boxed
from zppo.lab.models import new_tokenizer
from zppo.lab.puzzles import questions
from zppo.lab.rollouts import sample_texts


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_shipped_models_solve_short_chains_in_every_medium(name: str):
    folder = model_path(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [
        (q, Templates.default().plain(q))
        for source in ("text/4", "image/4", "video/4")
        for q in [q for q in questions("validation") if q.source == source][:6]
    ]
    replies = sample_texts(model, tokenizer, asked, 2, "test")
    right = [
        boxed(t) == q.answer for (q, _), group in zip(asked, replies, strict=True) for t in group
    ]
    assert sum(right) / len(right) >= 0.8


def test_shipped_tokenizer_is_the_one_the_builder_makes():
    """The vocabulary follows from the prompt templates: when they change, this says to rebuild."""
    shipped = AutoTokenizer.from_pretrained(model_path("student"))
    assert shipped.get_vocab() == new_tokenizer().get_vocab()


def test_a_model_the_lab_does_not_have_is_named():
    with pytest.raises(FileNotFoundError, match="no lab model `judge`"):
        model_path("judge")
