"""References to media: the same pixels as the embedded engine's, made somewhere else."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from tests import tiny
from zppo.errors import DataError, ModelError
from zppo.student.verl.media import AtReceiver, PixelReference
from zppo.student.verl.prompts import StepPrompts
from zppo.types import GroupKind, Media, Prompt, Question

SIZES = [(48, 16), (16, 48), (17, 90), (200, 31), (64, 64), (5, 33)]


def bcq(*media: Media) -> Prompt:
    return Prompt(Question("q", "Which?", "1", media=media), GroupKind.BCQ, "Which?")


@pytest.mark.parametrize("budget", [None, 12])
@pytest.mark.parametrize("size", SIZES)
def test_grids_are_known_without_pixels(size: tuple[int, int], budget: int | None) -> None:
    student = tiny.student("vlm", f"data.reformulated_visual_tokens={budget or 'null'}")
    for media in ((Media("image", (tiny.png(*size),)),), (tiny.VIDEO, tiny.IMAGE)):
        encoded = student.encoder.encode(bcq(*media))
        outline = student.encoder.outline(bcq(*media))
        assert outline.ids.tolist() == encoded.ids.tolist()
        assert outline.types.tolist() == encoded.types.tolist()
        for ours, theirs in ((outline.images, encoded.images), (outline.videos, encoded.videos)):
            assert [g.tolist() for _, g in ours] == [g.tolist() for _, g in theirs]
            assert not any(patches.size for patches, _ in ours)


def test_a_reference_is_small_and_decodes_to_the_same_pixels() -> None:
    encoder = tiny.student("vlm").encoder
    prompt = tiny.prompt("Look.", tiny.VIDEO, tiny.IMAGE, tiny.IMAGE)
    (row,) = StepPrompts(encoder).rows([prompt])
    assert row.media is not None
    sent = pickle.dumps(row.media)
    got = pickle.loads(sent)
    encoded = encoder.encode(prompt)
    made = dict(got.items())
    assert list(made) == list(got) and len(got) == 4
    assert "pixel_values" in got and "image_bound" not in got
    images = np.concatenate([patches for patches, _ in encoded.images])
    assert torch.equal(made["pixel_values"], torch.from_numpy(images))
    assert torch.equal(got["pixel_values_videos"], torch.from_numpy(encoded.videos[0][0]))
    assert made["image_grid_thw"].tolist() == [g.tolist() for _, g in encoded.images]
    assert made["video_grid_thw"].tolist() == [g.tolist() for _, g in encoded.videos]


def test_reading_the_names_decodes_nothing(tmp_path) -> None:
    encoder = tiny.student("vlm").encoder
    file = tmp_path / "picture.png"
    file.write_bytes(tiny.png(48, 16))
    (row,) = StepPrompts(encoder).rows([tiny.prompt("Look.", Media("image", (str(file),)))])
    file.unlink()
    assert isinstance(row.media, PixelReference)
    assert len(row.media) == 2 and "pixel_values" in row.media
    with pytest.raises(DataError, match="no such file"):
        row.media.items()


@pytest.mark.parametrize("kind", ["llama", "vlm"])
def test_rows_are_as_the_embedded_engine_collates_them(kind: tiny.Kind) -> None:
    encoder = tiny.student(kind).encoder
    prompts = tiny.prompts(kind)
    for prompt, row in zip(prompts, StepPrompts(encoder).rows(prompts), strict=True):
        batch = encoder.collate([encoder.encode(prompt)], "cpu")
        assert row.ids.tolist() == batch.ids[0].tolist()
        assert row.next_position == int(batch.next_position)
        assert (row.positions is None) == (kind == "llama")
        if row.positions is not None:
            assert torch.equal(torch.from_numpy(row.positions), batch.positions[:, 0])
        assert (row.media is None) == (not prompt.question.media)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_reference_arrives_as_a_picture_that_needs_no_resizing(size) -> None:
    encoder = tiny.student("vlm").encoder
    prompt = tiny.prompt("Look.", Media("image", (tiny.png(*size),)))
    (asked,) = StepPrompts(encoder).requested([prompt], keep=False)
    (reference,) = pickle.loads(pickle.dumps(asked)).images  # on its way to a relay: no pixels
    picture = pickle.loads(pickle.dumps(AtReceiver(reference)))
    assert picture.mode == "RGB" and picture.size == reference.size
    again = encoder.image_processor(images=[picture], return_tensors="np")
    patches, grid = encoder.encode(prompt).images[0]
    assert again["image_grid_thw"][0].tolist() == grid.tolist()
    assert np.array_equal(again["pixel_values"], patches)


def test_a_processor_with_a_rule_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny.student("vlm").encoder
    kind = type(encoder.image_processor)
    monkeypatch.setattr(kind, "get_number_of_image_patches", lambda *args: 44)
    with pytest.raises(ModelError, match="decoded away from the driver"):
        encoder.outline(tiny.prompt("Look.", tiny.IMAGE))
