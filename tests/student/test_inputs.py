"""From prompts to model inputs, against transformers' own processors where those can be built."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

from tests import tiny
from tests.data.data_files import write_video
from zppo.data.media import load_image
from zppo.errors import DataError, ModelError
from zppo.student.inputs import IMAGE, TEXT, VIDEO, PromptEncoder
from zppo.student.video import fit, patch_video
from zppo.types import GroupKind, Media, Prompt, Question


class ImagesOnly(Qwen3VLProcessor):
    """transformers' processor without its video part, the one thing in it that needs torchvision
    (so there is no whole-prompt parity for videos; their pieces are compared one by one)."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return type(argument)


def encoder(kind: tiny.Kind = "vlm", **options: Any) -> PromptEncoder:
    parts = tiny.loaded(kind)
    return PromptEncoder(parts.tokenizer, parts.model, parts.image_processor, **options)


def token(name: str) -> int:
    return tiny.tokenizer().convert_tokens_to_ids(name)


def image(width: int, height: int, seed: int = 0) -> Media:
    return Media("image", (tiny.png(width, height, seed),))


# -- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_text_is_one_user_turn_and_the_start_of_the_answer(kind):
    encoded = encoder(kind).encode(tiny.prompt("1 + 2 = ?"))
    text = tiny.tokenizer().decode(encoded.ids)
    assert text == "<|im_start|>user\n1 + 2 = ?<|im_end|>\n<|im_start|>assistant\n"
    assert len(encoded) == len(encoded.ids) and not encoded.types.any()
    assert encoded.images == encoded.videos == ()


@pytest.mark.parametrize("media", [(), (tiny.IMAGE,)])
def test_forced_tokens_follow_the_prompt(media):
    question = Question("q", "1?", "1", media=media)
    plain = encoder().encode(Prompt(question, GroupKind.PLAIN, "1?"))
    forced = encoder().encode(Prompt(question, GroupKind.PREFIX, "1?", (11, 12)))
    assert forced.ids.tolist() == [*plain.ids.tolist(), 11, 12]
    assert forced.types.tolist() == [*plain.types.tolist(), TEXT, TEXT]


# -- images -------------------------------------------------------------------------------------


def test_images_equal_the_processor_of_transformers():
    """Ids, types, pixels and grids of whole prompts with zero to two images."""
    parts = tiny.loaded("vlm")
    theirs = ImagesOnly(
        parts.image_processor, parts.tokenizer, None, chat_template=tiny.tokenizer().chat_template
    )
    for sizes in ([], [(48, 16)], [(32, 48), (90, 33)]):
        media = tuple(image(w, h, seed) for seed, (w, h) in enumerate(sizes))
        ours = encoder().encode(tiny.prompt("Compare them.", *media))
        content = [*({"type": "image"} for _ in media), {"type": "text", "text": "Compare them."}]
        text = theirs.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        pictures = [load_image(m.parts[0]) for m in media]
        out = theirs(text=[text], images=pictures or None, return_tensors="np")
        np.testing.assert_array_equal(ours.ids, out["input_ids"][0])
        if media:
            np.testing.assert_array_equal(ours.types, out["mm_token_type_ids"][0])
            pixels = np.concatenate([p for p, _ in ours.images])
            np.testing.assert_array_equal(pixels, out["pixel_values"])
            grids = np.stack([g for _, g in ours.images])
            np.testing.assert_array_equal(grids, out["image_grid_thw"])


# -- videos -------------------------------------------------------------------------------------


def test_a_video_of_one_frame_twice_is_that_image():
    """With two frames a patch, an image is a video that shows it twice: same patches, same grid."""
    for width, height in ((64, 32), (90, 33), (200, 300), (17, 40)):
        picture = load_image(tiny.png(width, height))
        # A video's bounds count every frame: twice those of the image.
        bounds = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 16}
        processor = Qwen2VLImageProcessorPil(size=bounds, patch_size=8)
        expected = processor(images=[picture], return_tensors="np")
        doubled = {k: 2 * v for k, v in bounds.items()}
        processor = Qwen2VLImageProcessorPil(size=doubled, patch_size=8)
        patches, grid = patch_video([picture, picture], processor, 2 * bounds["longest_edge"])
        np.testing.assert_array_equal(grid, expected["image_grid_thw"][0])
        np.testing.assert_allclose(patches, expected["pixel_values"], atol=1e-5)
        assert patches.dtype == np.float32


def test_frames_keep_their_order_and_the_last_fills_up():
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 16 * 16, "longest_edge": 16 * 16 * 99},
        patch_size=8,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    )
    frames = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (51, 102, 153)]
    patches, grid = patch_video(frames, processor)
    assert grid.tolist() == [2, 2, 2] and patches.shape == (8, 3 * 2 * 8 * 8)
    levels = patches.reshape(2, 4, 3, 2, 64)[:, :, 0]  # (t, patch, frame of the pair, pixel)
    for t, pair in enumerate(((0.2, 0.4), (0.6, 0.6))):
        for frame, level in enumerate(pair):
            np.testing.assert_allclose(levels[t, :, frame], level, atol=1e-6)


@given(
    pairs=st.integers(1, 40),
    height=st.integers(32, 2_000),
    width=st.integers(32, 2_000),
    floor=st.integers(1_000, 200_000),
    room=st.integers(2, 50),
)
@settings(max_examples=200, deadline=None)
def test_sizes_equal_those_of_transformers(pairs, height, width, floor, room):
    """For whole pairs of frames no smaller than a patch; there the library rounds frames away
    and scales tiny ones up first."""
    count = 2 * pairs
    ours = fit(height, width, count, 32, floor, room * floor)
    theirs = smart_resize(
        count, height, width, factor=32, min_pixels=floor, max_pixels=room * floor
    )
    assert ours == theirs


@given(st.integers(1, 9), st.integers(1, 400), st.integers(1, 400), st.integers(2, 60))
def test_sizes_are_whole_patches_within_the_limit(count, height, width, patches):
    h, w = fit(height, width, count, 16, 16 * 16, 16 * 16 * patches * count)
    assert h % 16 == w % 16 == 0 and h >= 16 and w >= 16
    # A side cannot shrink below one patch, which only the thinnest of shapes would need.
    assert h * w <= 16 * 16 * patches or min(h, w) == 16


def test_video_frames_carry_their_times():
    """Four frames at two a second, one frame a patch in the lab's models."""
    encoded = encoder().encode(tiny.prompt("And?", tiny.VIDEO))
    text = tiny.tokenizer().decode(encoded.ids)
    frame = "<|vision_start|><|video_pad|><|vision_end|>"
    assert "".join(f"<{t} seconds>{frame}" for t in ("0.0", "0.5", "1.0", "1.5")) in text
    assert encoded.videos[0][1].tolist() == [4, 2, 2]
    assert (encoded.types == VIDEO).sum() == 4


def test_merged_frames_show_the_time_between_them():
    """Two frames a patch, three frames: the second patch holds the last one twice."""
    parts = tiny.loaded("vlm")
    processor = Qwen2VLImageProcessorPil(
        patch_size=8, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 4_096}
    )
    video = Media("video", tuple(tiny.png(16, 16, seed) for seed in range(3)), fps=1.0)
    one = PromptEncoder(parts.tokenizer, parts.model, processor, video_fps=1.0)
    text = tiny.tokenizer().decode(one.encode(tiny.prompt("And?", video)).ids)
    assert "<0.5 seconds><|vision_start|>" in text and "<2.0 seconds><|vision_start|>" in text
    times = Qwen3VLProcessor._calculate_timestamps(None, [0, 1, 2], 1.0, 2)  # pyright: ignore
    assert times == [0.5, 2.0]


# -- mixed, and what is refused -----------------------------------------------------------------


def test_placeholders_count_the_patches_of_mixed_media():
    media = (image(48, 16), tiny.VIDEO, image(32, 32, 1))
    encoded = encoder().encode(tiny.prompt("All?", *media))
    tokens = [len(patches) // 4 for patches, _ in encoded.images]
    assert tokens == [3, 4] and len(encoded.videos) == 1
    assert (encoded.ids == token("<|image_pad|>")).sum() == (encoded.types == IMAGE).sum() == 7
    assert (encoded.ids == token("<|video_pad|>")).sum() == (encoded.types == VIDEO).sum() == 4
    order = [k for k, _ in _runs(encoded.types) if k != TEXT]
    assert order == [IMAGE, VIDEO, VIDEO, VIDEO, VIDEO, IMAGE]


@pytest.mark.parametrize("media", [(), (tiny.IMAGE,), (tiny.VIDEO,)])
@pytest.mark.parametrize("name", ["<|image_pad|>", "<|video_pad|>"])
def test_a_placeholder_in_the_text_is_refused(media, name):
    with pytest.raises(DataError, match="`q`: its text contains"):
        encoder().encode(tiny.prompt(f"What is {name}?", *media))
    if not media:  # to a text model it is a word like any other
        encoder("llama").encode(tiny.prompt(f"What is {name}?"))


def test_private_use_characters_of_a_text_stay_text():
    encoded = encoder().encode(tiny.prompt("\ue000 and \ue001", tiny.IMAGE))
    assert (encoded.types == IMAGE).sum() == 3 and not (encoded.types == VIDEO).any()
    assert "\ue000 and \ue001" in tiny.tokenizer().decode(encoded.ids)


def test_media_need_a_model_that_takes_them():
    with pytest.raises(ModelError, match="`q` has images and videos, but `llama` is a text model"):
        encoder("llama").encode(tiny.prompt("1?", tiny.IMAGE, tiny.VIDEO))
    older = encoder()
    older.model_type = "qwen2_5_vl"
    older.encode(tiny.prompt("1?", tiny.IMAGE))
    with pytest.raises(ModelError, match="takes videos in a form that is not supported"):
        older.encode(tiny.prompt("1?", tiny.VIDEO))
    parts = tiny.loaded("vlm")
    other = PromptEncoder(parts.tokenizer, parts.model, object())
    with pytest.raises(ModelError, match="not of the Qwen-VL family"):
        other.encode(tiny.prompt("1?", tiny.IMAGE))


def test_media_that_cannot_be_used_are_data_errors():
    for media, reason in (
        (Media("image", ("/no/such/file.png",)), "no such file"),
        (Media("image", (b"no image",)), "not an image"),
        (image(2_100, 10), "aspect ratio"),
        (Media("video", (b"no video",)), "not a readable video"),
    ):
        with pytest.raises(DataError, match=f"(?s)`q`.*{reason}"):
            encoder().encode(tiny.prompt("1?", media))


def with_template(template: str | None) -> PromptEncoder:
    parts = tiny.loaded("vlm")
    tokenizer = tiny.models.new_tokenizer()
    tokenizer.chat_template = template
    return PromptEncoder(tokenizer, parts.model, parts.image_processor)


def test_a_chat_template_must_be_there_work_and_show_the_media():
    with pytest.raises(ModelError, match="has no chat template"):
        with_template(None)
    with pytest.raises(ModelError, match="chat template of `qwen3_5` fails"):
        with_template("{{ messages[0].content + }}")
    with pytest.raises(ModelError, match="system turn"):
        with_template("{{ raise_exception('needs a system turn') }}")
    blind = with_template("{{ messages[0].content if messages[0].content is string else 'x' }}")
    with pytest.raises(ModelError, match="shows 0 images or videos of 1"):
        blind.encode(tiny.prompt("1?", tiny.IMAGE))


# -- batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "hybrid", "vlm"])
def test_prompts_are_padded_on_the_left(kind):
    one = encoder(kind)
    encoded = [one.encode(p) for p in tiny.prompts(kind)]
    batch = one.collate(encoded, "cpu")
    width = max(map(len, encoded))
    assert batch.ids.shape == batch.mask.shape == batch.types.shape == (3, width)
    for row, item in enumerate(encoded):
        start = width - len(item)
        assert batch.mask[row].tolist() == [0] * start + [1] * len(item)
        assert batch.ids[row, start:].tolist() == item.ids.tolist()
        assert (batch.ids[row, :start] == tiny.tokenizer().pad_token_id).all()
        assert batch.types[row, start:].tolist() == item.types.tolist()
        if not (item.images or item.videos):
            positions = batch.positions[..., row, start:].reshape(-1, len(item))
            assert all(p.tolist() == list(range(len(item))) for p in positions)
            assert int(batch.next_position[row]) == len(item)


def test_positions_do_not_depend_on_the_batch():
    """Multimodal rotary positions of a prompt alone and padded beside others."""
    one = encoder()
    encoded = [one.encode(p) for p in tiny.prompts("vlm")]
    batch = one.collate(encoded, "cpu")
    for row, item in enumerate(encoded):
        alone = one.collate([item], "cpu")
        torch.testing.assert_close(
            batch.positions[:, row, -len(item) :], alone.positions.expand(3, -1, -1)[:, 0]
        )
        assert int(batch.next_position[row]) == int(alone.next_position[0])


def test_selected_rows_bring_their_pixels():
    one = encoder()
    batch = one.collate([one.encode(p) for p in tiny.prompts("vlm")], "cpu")
    rows = batch.select(torch.tensor([1, 0, 0]))
    inputs = rows.model_inputs()
    assert inputs["input_ids"].tolist() == batch.ids[[1, 0, 0]].tolist()
    assert inputs["image_grid_thw"].tolist() == [[1, 2, 6]] * 2
    assert inputs["video_grid_thw"].tolist() == [[4, 2, 2]]
    assert len(inputs["pixel_values"]) == 24 and len(inputs["pixel_values_videos"]) == 16
    text_only = batch.select(torch.tensor([2])).model_inputs()
    assert "pixel_values" not in text_only and "mm_token_type_ids" not in text_only


def _runs(types: np.ndarray) -> list[tuple[int, int]]:
    """(kind, length) of each run of equal types; vision tokens part the frames of a video."""
    edges = np.flatnonzero(np.diff(types)) + 1
    return [(int(part[0]), len(part)) for part in np.split(types, edges)]


def test_a_grayscale_picture_is_read_as_colour():
    buffer = io.BytesIO()
    Image.new("L", (32, 32), 128).save(buffer, "PNG")
    encoded = encoder().encode(tiny.prompt("1?", Media("image", (buffer.getvalue(),))))
    assert encoded.images[0][0].shape == (16, 3 * 8 * 8)


@pytest.mark.parametrize("size", [(48, 16), (33, 70), (640, 480), (16, 16), (5, 300)])
def test_length_counts_visual_tokens_without_making_pixels(size, monkeypatch):
    """Also where the processor resizes, and with several images, a video or forced tokens."""
    student = tiny.student("vlm", "data.max_pixels=65536")
    image = Media("image", (tiny.png(*size),))
    question = Question("q", "What is it?", "1", media=(image, tiny.IMAGE))
    shown = Prompt(question, GroupKind.PREFIX, "What is it?", prefix_ids=(50, 51, 52))
    expected = len(student.encoder.encode(shown))
    monkeypatch.setattr("zppo.student.inputs.load_pixels", None)
    assert student.encoder.length(shown) == expected == student.prompt_tokens(shown)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_length_knows_turned_pictures(orientation):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (96, 32)).save(buffer, "JPEG", exif=exif)
    student = tiny.student("vlm", "data.max_pixels=1600")
    shown = tiny.prompt("And now?", Media("image", (buffer.getvalue(),)))
    assert student.encoder.length(shown) == len(student.encoder.encode(shown))


def test_length_of_text_and_video_prompts():
    for kind in ("llama", "vlm"):
        encoder = tiny.student(kind).encoder
        for shown in tiny.prompts(kind):
            assert encoder.length(shown) == len(encoder.encode(shown))


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("limit", ["null", "4096"])
def test_length_of_a_video_file_without_decoding_it(tmp_path, frames, limit, monkeypatch):
    path = write_video(tmp_path / "v.mp4", frames, rate=3, size=(70, 48))
    student = tiny.student("vlm", f"data.video_max_pixels={limit}", "data.min_pixels=256")
    shown = tiny.prompt("And?", Media("video", (path,)), tiny.VIDEO, tiny.IMAGE)
    expected = len(student.encoder.encode(shown))
    monkeypatch.setattr("zppo.student.pixels.load_frames", None)
    assert student.encoder.length(shown) == expected


@pytest.mark.parametrize("budget", [3, 8, 20, 1_000])
def test_reformulated_prompts_keep_within_their_visual_tokens(budget):
    """Plain ones show what they always show; lengths stay exact."""
    name = f"data.reformulated_visual_tokens={budget}"
    small = "data.min_pixels=256"
    encoder, usual = tiny.student("vlm", name, small).encoder, tiny.student("vlm", small).encoder
    media = (image(96, 64), tiny.VIDEO, image(48, 16))
    question = Question("q", "?", "1", media=media)
    for kind in GroupKind:
        shown = Prompt(question, kind, "?")
        encoded = encoder.encode(shown)
        visual = int((encoded.types != TEXT).sum())
        natural = int((usual.encode(shown).types != TEXT).sum())
        assert encoder.length(shown) == len(encoded)
        if kind in (GroupKind.PLAIN, GroupKind.PREFIX) or budget >= natural:
            assert visual == natural
        else:  # a frame has one token at least, and there are two images and four frames
            assert visual <= max(budget, 6) and visual < natural


def test_threads_encode_what_one_thread_does():
    prompts = [tiny.prompt("?", image(48, 16, seed), name=str(seed)) for seed in range(5)]
    together = tiny.student("vlm").encoder.encode_all(prompts)
    for prompt, encoded in zip(prompts, together, strict=True):
        alone = encoder().encode(prompt)
        np.testing.assert_array_equal(alone.ids, encoded.ids)
        np.testing.assert_array_equal(alone.images[0][0].shape[1], encoded.images[0][0].shape[1])


def test_length_raises_what_encode_raises():
    encoder = tiny.student("vlm").encoder
    with pytest.raises(DataError, match="Question `q`"):
        encoder.length(tiny.prompt("?", Media("image", (b"not a picture",))))
    with pytest.raises(DataError, match="placeholder"):
        encoder.length(tiny.prompt("<|image_pad|>?", tiny.IMAGE))
    with pytest.raises(ModelError, match="text model"):
        tiny.student("llama").encoder.length(tiny.prompt("?", tiny.IMAGE))
