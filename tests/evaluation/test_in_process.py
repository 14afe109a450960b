"""All 31 benchmarks in process with a tiny VLM: images and frames reach the model as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.evaluation import fixtures
from zppo.algorithm.prompts import Templates
from zppo.config import parse_config
from zppo.errors import ModelError
from zppo.evaluation import models as evaluated
from zppo.evaluation.benchmark import shipped
from zppo.evaluation.loading import load_items
from zppo.evaluation.models import Ask, LocalModel
from zppo.evaluation.predict import prompts, read_predictions
from zppo.runs.benchmarks import Request, run_benchmarks
from zppo.runs.loop import blocking
from zppo.types import Media, Question

SETTINGS = [
    "student.threads=1",
    "student.dtype=fp32",
    "evaluation.max_response_tokens=3",
    "data.min_pixels=256",
    "data.max_pixels=1024",
    "data.max_frames=4",
]


class Spy:
    """Records what the model's forward is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[dict[str, Any]] = []
        sample = evaluated.sample_groups

        def watched(model: Any, head: Any, batch: Any, *args: Any) -> Any:
            self.seen.append(batch.model_inputs())
            return sample(model, head, batch, *args)

        monkeypatch.setattr(evaluated, "sample_groups", watched)

    def pixels(self, name: str) -> list[torch.Tensor]:
        return [inputs[name] for inputs in self.seen if name in inputs]


def request(tiny_vlm: Path, data_root: Path, output: Path, *keys: str, more: Sequence[str] = ()):
    return Request(
        target=str(tiny_vlm),
        names=keys,
        overrides=[*SETTINGS, *more],
        output=output,
        data_root=data_root,
        limit=2,
        predict_only=True,
    )


def test_every_benchmark_is_asked(
    tiny_vlm: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    keys = list(shipped())
    result, folder = run_benchmarks(request(tiny_vlm, data_root, tmp_path, *keys))
    assert not result["failed"]
    for benchmark in shipped().values():
        loaded = load_items(benchmark, data_root, 2)
        texts = prompts(loaded.items, Templates.default())
        file = folder / benchmark.key / "predictions.jsonl"
        found = list(read_predictions(file, loaded.items, texts).values())
        assert len(found) == 2
        assert not [a.error for a in found if a.error], benchmark.key
        assert all(a.text is not None and a.tokens for a in found)
    assert result["model"]["class"] == "Qwen3_5ForConditionalGeneration"
    assert spy.pixels("pixel_values") and spy.pixels("pixel_values_videos")


def test_the_pixels_are_those_of_the_image(
    tiny_vlm: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    run_benchmarks(request(tiny_vlm, data_root, tmp_path, "AI2D"))
    given = torch.cat(spy.pixels("pixel_values"))
    processor = LocalModel.load(config(tiny_vlm)).encoder.image_processor
    from zppo.data.media import load_image

    items = load_items(shipped()["AI2D"], data_root, 2).items
    images = [load_image(item.question.media[0].parts[0]) for item in items]
    wanted = processor(images=images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(given, wanted.float())


def test_the_frames_are_those_of_the_video(
    tiny_vlm: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    run_benchmarks(request(tiny_vlm, data_root, tmp_path, "VMME"))
    videos, grids = spy.pixels("pixel_values_videos"), spy.pixels("video_grid_thw")
    assert len(videos) == 2
    # 6 frames at 2 a second, at most 4 of them, brighter with time.
    step = tiny.loaded("vlm").image_processor.temporal_patch_size
    for pixels, grid in zip(videos, grids, strict=True):
        assert grid[0, 0] == 4 // step
        levels = pixels.view(4 // step, -1).mean(dim=1)
        assert (levels.diff() > 0.1).all()


def test_the_frame_budget_is_kept(
    tiny_vlm: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    run_benchmarks(request(tiny_vlm, data_root, tmp_path, "VMME", more=["data.max_frames=2"]))
    step = tiny.loaded("vlm").image_processor.temporal_patch_size
    assert all(grid[0, 0] == 2 // step for grid in spy.pixels("video_grid_thw"))


def test_pixel_bounds_are_kept(
    tiny_vlm: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    more = ["data.min_pixels=4096", "data.max_pixels=8192"]
    run_benchmarks(request(tiny_vlm, data_root, tmp_path, "AI2D", more=more))
    patch = tiny.loaded("vlm").image_processor.patch_size ** 2
    for grid in spy.pixels("image_grid_thw"):
        assert all(4096 <= t * h * w * patch <= 8192 for t, h, w in grid.tolist())


def test_a_conversation_reaches_the_model_turn_by_turn(
    tiny_vlm: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    run_benchmarks(request(tiny_vlm, data_root, tmp_path, "MultiCh"))
    decode = tiny.tokenizer().decode
    texts = [decode(row) for inputs in spy.seen for row in inputs["input_ids"]]
    for text in texts:
        order = [
            text.index(s) for s in ("allergic to nuts", "Noted.", "Suggest a dessert", "boxed")
        ]
        assert order == sorted(order)
        assert text.count("<|im_start|>user") == 2 and text.count("<|im_start|>assistant") == 2


def config(model: Path, *more: str) -> Any:
    tree = {"method": "grpo", "student": {"model": str(model)}}
    return parse_config(tree, [*SETTINGS, *more])


def asks(count: int, samples: int, done: Sequence[tuple[int, int]] = ()) -> list[Ask]:
    from zppo.evaluation.benchmark import Item

    return [
        Ask(
            Item(Question(f"q{i}", f"What is {i} + {i}?", "1")),
            f"What is {i} + {i}?",
            samples,
            tuple(k for k in range(samples) if (i, k) not in done),
        )
        for i in range(count)
    ]


def answers(model: LocalModel, wanted: list[Ask]) -> dict[tuple[str, int], str | None]:
    async def collect() -> dict[tuple[str, int], str | None]:
        return {
            (a.id, a.sample): a.text async for piece in model.answer(wanted, (3,)) for a in piece
        }

    return blocking(collect())


def test_what_is_missing_is_what_an_uninterrupted_evaluation_had(tiny_vlm: Path) -> None:
    model = LocalModel.load(config(tiny_vlm, "evaluation.max_response_tokens=8"))
    whole = answers(model, asks(3, 2))
    done = [(0, 0), (0, 1), (1, 0)]
    rest = answers(model, asks(3, 2, done))
    assert rest == {
        (f"q{i}", k): whole[f"q{i}", k] for i in range(3) for k in range(2) if (i, k) not in done
    }
    assert len(set(whole.values())) > 1


def test_batches_keep_to_the_budget(tiny_vlm: Path) -> None:
    small = LocalModel.load(config(tiny_vlm, "student.sampler_batch_tokens=60"))
    large = LocalModel.load(config(tiny_vlm))
    wanted = asks(4, 2)
    assert [len(batch) for batch in large._batches(wanted)] == [4]
    assert [len(batch) for batch in small._batches(wanted)] == [1, 1, 1, 1]


def test_the_presence_penalty_holds_in_process(
    tiny_vlm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a penalty beyond all logits no token comes twice."""
    groups: list[Any] = []
    sample = evaluated.sample_groups
    monkeypatch.setattr(
        evaluated, "sample_groups", lambda *args: groups.extend(found := sample(*args)) or found
    )
    more = ["evaluation.max_response_tokens=12", "evaluation.presence_penalty=1000"]
    model = LocalModel.load(config(tiny_vlm, *more, "evaluation.temperature=0"))
    answers(model, asks(2, 1))
    for group in groups:
        ids = group.token_ids[0].tolist()
        assert len(ids) > 3 and len(set(ids)) == len(ids)


def test_a_question_that_does_not_fit_is_an_error_of_its_row(tiny_vlm: Path) -> None:
    model = LocalModel.load(config(tiny_vlm))
    model.context = 40
    long = Ask(asks(1, 1)[0].item, "word " * 60, 1, (0,))

    async def collect() -> list[Any]:
        return [a async for piece in model.answer([long, *asks(2, 1)[1:]], (0,)) for a in piece]

    first, second = sorted(blocking(collect()), key=lambda a: a.id)
    assert first.text is None and "exceed the context of 40" in first.error
    assert second.text is not None


def test_images_to_a_text_model_are_errors_of_their_rows(tmp_path: Path) -> None:
    model = LocalModel(tiny.loaded("llama"), config(tmp_path), "llama")
    image = Media("image", (fixtures.png(0),))
    from zppo.evaluation.benchmark import Item

    wanted = [Ask(Item(Question("q", "See?", "1", media=(image,))), "See?", 1, (0,))]

    async def collect() -> list[Any]:
        return [a async for piece in model.answer(wanted, (0,)) for a in piece]

    [answer] = blocking(collect())
    assert answer.text is None and "is a text model" in answer.error


def test_a_limit_beyond_the_context_is_refused(tiny_vlm: Path) -> None:
    with pytest.raises(ModelError, match="max_response_tokens=12288 fills the context"):
        LocalModel.load(config(tiny_vlm, "evaluation.max_response_tokens=12288"))


def test_frames_differ_between_videos(data_root: Path) -> None:
    """The made videos are what the tests above take them for."""
    from zppo.data.media import load_frames

    item = load_items(shipped()["VMME"], data_root).items[0]
    frames, times = load_frames(item.question.media[0], 64, 2.0)
    levels = [float(np.asarray(f).mean()) for f in frames]
    assert len(frames) == 6 and levels == sorted(levels) and times[-1] == 2.5


def test_a_checkpoint_of_a_lora_run_is_merged(tiny_vlm: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = LocalModel.load(config(tiny_vlm)).loaded.model
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.3)
    adapted.save_pretrained(tmp_path / "step")
    merged = LocalModel.load(config(tiny_vlm), tmp_path / "step")
    plain = LocalModel.load(config(tiny_vlm))
    assert merged.name == str(tmp_path / "step")
    weights = [dict(m.loaded.model.named_parameters()) for m in (merged, plain)]
    assert weights[0].keys() == weights[1].keys()
    changed = {n for n in weights[0] if not torch.equal(weights[0][n], weights[1][n])}
    assert changed and all("q_proj" in n or "v_proj" in n for n in changed)
