"""A teacher of another tokenizer is refused before anything is trained, with both names."""

from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from tests import tiny
from zppo.config import LocalTeacherConfig
from zppo.errors import ModelError
from zppo.student.loading import LoadedModel
from zppo.student.vocabulary import require_same_pictures, require_same_vocabulary
from zppo.teacher.local import LocalTeacher

NAMES = ("small", "large")


def with_tokenizer(change) -> LoadedModel:
    loaded = tiny.loaded("llama")
    tokenizer = copy.deepcopy(loaded.tokenizer)
    change(tokenizer)
    return LoadedModel(loaded.model, tokenizer, None, loaded.device)


def test_one_tokenizer_in_two_objects_is_accepted():
    require_same_vocabulary(tiny.loaded("llama"), with_tokenizer(lambda t: None), NAMES)


def test_a_pad_token_of_its_own_does_not_matter():
    """Padding is masked everywhere, so which token fills it is nobody's business."""
    other = with_tokenizer(lambda t: setattr(t, "pad_token", t.eos_token))
    require_same_vocabulary(tiny.loaded("llama"), other, NAMES)


def test_another_vocabulary_is_named_with_its_first_difference():
    other = with_tokenizer(lambda t: t.add_tokens(["zebra"]))
    with pytest.raises(ModelError, match=r"`small` and `large` differ: .*'zebra' \(missing and \d"):
        require_same_vocabulary(tiny.loaded("llama"), other, NAMES)


def test_another_end_of_turn_is_refused():
    other = with_tokenizer(lambda t: setattr(t, "eos_token", "<|endoftext|>"))
    with pytest.raises(ModelError, match=r"turns end with '<\|im_end\|>' and '<\|endoftext\|>'"):
        require_same_vocabulary(tiny.loaded("llama"), other, NAMES)


def test_the_same_tokens_split_otherwise_are_refused():
    """One vocabulary, but the other tokenizer lowers its input first."""

    def lower(tokenizer: PreTrainedTokenizerFast) -> None:
        from tokenizers import normalizers

        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()

    with pytest.raises(ModelError, match="is split into"):
        require_same_vocabulary(tiny.loaded("llama"), with_tokenizer(lower), NAMES)


def test_pictures_must_be_cut_alike_where_there_are_any():
    student = tiny.student("vlm")
    options = LocalTeacherConfig(model="tiny")
    same, other, text = (
        LocalTeacher(tiny.loaded(kind), tiny.config(), options).encoder
        for kind in ("vlm", "vlm", "llama")
    )
    other.image_processor.image_mean = [0.4, 0.5, 0.5]
    questions = [p.question for p in tiny.prompts("vlm")]
    require_same_pictures(student.encoder, same, NAMES, questions)
    with pytest.raises(ModelError, match=r"`small` and `large` do not .*image_mean \[0.5.*\[0.4"):
        require_same_pictures(student.encoder, other, NAMES, questions)
    with pytest.raises(ModelError, match="placeholder tokens"):
        require_same_pictures(student.encoder, text, NAMES, questions)
    require_same_pictures(student.encoder, text, NAMES, questions[-1:])
