"""References to media: the same pixels as the embedded engine's, made somewhere else."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.student.verl.engine import write_model
from zppo.errors import DataError, ModelError
from zppo.student.verl import prompts as p
from zppo.student.verl.media import AtReceiver, PixelReference
from zppo.student.verl.prompts import ServerMedia, StepPrompts
from zppo.student.verl.reader import PromptReader
from zppo.student.video import patch_video
from zppo.types import GroupKind, Media, Prompt, Question

ANY = ServerMedia((0, 10**9), (0, 10**9), "vllm")
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
    (row,) = StepPrompts(encoder, ANY).rows([prompt])
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
    (row,) = StepPrompts(encoder, ANY).rows([tiny.prompt("Look.", Media("image", (str(file),)))])
    file.unlink()
    assert isinstance(row.media, PixelReference)
    assert len(row.media) == 2 and "pixel_values" in row.media
    with pytest.raises(DataError, match="no such file"):
        row.media.items()


@pytest.mark.parametrize("kind", ["llama", "vlm"])
def test_rows_are_as_the_embedded_engine_collates_them(kind: tiny.Kind) -> None:
    encoder = tiny.student(kind).encoder
    prompts = tiny.prompts(kind)
    for prompt, row in zip(prompts, StepPrompts(encoder, ANY).rows(prompts), strict=True):
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
    (asked,) = StepPrompts(encoder, ANY).requested([prompt], keep=False)
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


def films(number: int) -> Prompt:
    return tiny.prompt("What happens?", *[tiny.VIDEO] * number)


def test_a_video_reference_arrives_as_frames_and_their_times() -> None:
    encoder = tiny.student("vlm").encoder
    (asked,) = StepPrompts(encoder, ANY).requested([films(1)], keep=False)
    (reference,) = pickle.loads(pickle.dumps(asked)).videos  # on its way to a relay: no frames
    frames, metadata = pickle.loads(pickle.dumps(AtReceiver(reference)))
    assert frames.shape == (4, 16, 16, 3) and frames.dtype == np.uint8
    times = [i / metadata["fps"] for i in metadata["frames_indices"]]
    assert times == [0.0, 0.5, 1.0, 1.5]
    assert metadata["do_sample_frames"] is False
    patches, grid = patch_video([Image.fromarray(f) for f in frames], encoder.image_processor)
    ours, our_grid = encoder.encode(films(1)).videos[0]
    assert np.array_equal(patches, ours) and grid.tolist() == our_grid.tolist()


@pytest.mark.parametrize("keeps", [True, False])
def test_a_server_finds_the_place_of_a_video(monkeypatch: pytest.MonkeyPatch, keeps: bool) -> None:
    """Frames bring starts and ends of their own. One that keeps those around the placeholder is
    sent none; one that puts the frames in place of all three is sent them."""
    monkeypatch.setattr(p, "_keeps_start_and_end", lambda: keeps)
    encoder = tiny.student("vlm").encoder
    (asked,) = StepPrompts(encoder, ANY).requested([films(1)], keep=False)
    text = encoder.tokenizer.decode(asked.ids)
    assert text.count("<|video_pad|>") == 1
    assert ("<|vision_start|><|video_pad|><|vision_end|>" in text) is not keeps
    assert ("<|vision_start|>" in text) is not keeps


def test_media_that_a_server_would_read_otherwise_are_refused() -> None:
    encoder = tiny.student("vlm").encoder
    image = tiny.prompt("Look.", Media("image", (tiny.png(64, 64),)))

    def refusal(server: ServerMedia, prompt: Prompt) -> str:
        with pytest.raises(ModelError) as refused:
            StepPrompts(encoder, server).requested([prompt], keep=False)
        return str(refused.value)

    bounds = (64, 1_024)
    assert "Set data.max_pixels=1024" in refusal(ServerMedia(bounds, bounds, "vllm"), image)
    bounds = (10_000, 20_000)
    assert "Set data.min_pixels=10000" in refusal(ServerMedia(bounds, bounds, "vllm"), image)
    bounds = (64, 1_000)
    said = refusal(ServerMedia(bounds, bounds, "vllm"), films(1))
    assert "1,024 pixels" in said and "Set data.video_max_pixels=1000" in said
    said = refusal(ServerMedia(bounds, None, "sglang"), films(1))
    assert "a video, which verl.rollout=sglang is not sent" in said
    assert "has 2 videos" in refusal(ANY, films(2))


def test_the_checkpoints_own_bounds_are_read_before_ours_are_set(tmp_path: Path) -> None:
    write_model(tmp_path, kind="vlm")
    (tmp_path / "video_preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 1_024, "longest_edge": 65_536}})
    )
    config = tiny.config(f"student.model={tmp_path}", "student.engine=verl", "data.min_pixels=4096")
    reader = PromptReader.from_config(config)
    assert reader.prompts.server.images == (256, 16_384)
    assert reader.prompts.server.videos == (1_024, 65_536)
    assert reader.encoder.image_processor.size["shortest_edge"] == 4_096


def test_a_step_encodes_a_prompt_once() -> None:
    encoder = tiny.student("vlm").encoder
    calls: list[Prompt] = []
    outline = encoder.outline
    encoder.outline = lambda prompt: calls.append(prompt) or outline(prompt)
    prompts = StepPrompts(encoder, ANY)
    some = tiny.prompts("vlm")
    prompts.requested(some, keep=True)
    prompts.rows(some)
    assert len(calls) == 3
    prompts.forget()
    prompts.rows(some)
    prompts.requested(some, keep=False)
    assert len(calls) == 9
