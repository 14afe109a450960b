"""Rows of benchmarks: column checks, fallbacks, unusable rows, and each reader's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import fixtures
from zppo.data.skips import RowProblem
from zppo.errors import ConfigError, DataError
from zppo.evaluation import loading
from zppo.evaluation.benchmark import Benchmark, choose, load, shipped
from zppo.evaluation.loading import evenly, load_items
from zppo.evaluation.readers import PART, mmlu_redux, mmmu_pro, mvbench, subtitles, worked
from zppo.evaluation.rows import prompt_text, shuffled, unlabelled
from zppo.evaluation.videos import VideoFinder


def rewrite(folder: Path, name: str, change: Any) -> None:
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    (folder / name).write_text("".join(json.dumps(change(i, r)) + "\n" for i, r in enumerate(rows)))


def test_a_renamed_column_is_named_with_its_successor(tmp_path: Path) -> None:
    folder = fixtures.build_one(tmp_path, shipped()["EmbSp"])
    rewrite(folder, "test.jsonl", lambda i, r: {
        {"answer_options": "answers_options"}.get(k, k): v for k, v in r.items()
    })  # fmt: skip
    gone = r"has changed since version 1.*`answer_options` \(now `answers_options`\?\).*question"
    with pytest.raises(DataError, match=gone):
        load_items(shipped()["EmbSp"], tmp_path)


def test_unusable_rows_are_named_and_not_lost(tmp_path: Path) -> None:
    folder = fixtures.build_one(tmp_path, shipped()["MMLU"])
    changes = [{"answer": 7}, {"question": ""}, {"answer": None}]
    rewrite(folder, "all.test.jsonl", lambda i, r: r | (changes[i] if i < 3 else {}))
    loaded = load_items(shipped()["MMLU"], tmp_path)
    assert len(loaded.items) == 1
    assert loaded.unusable == [
        "all row 0, answer: H is beyond 4 options",
        "all row 1, question: the question is empty",
        "all row 2, answer: the gold answer is missing or empty",
    ]


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    folder = fixtures.build_one(tmp_path, shipped()["VMME"])
    (folder / "data" / "v0.mp4").unlink()
    loaded = load_items(shipped()["VMME"], tmp_path)
    assert len(loaded.items) == 2 and len(loaded.unusable) == 2
    assert "`data/v0.mp4` is neither below" in loaded.unusable[0]
    assert "--data-root" in loaded.unusable[0]


def test_a_video_is_found_by_name_and_part(tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part / "deep").mkdir(parents=True)
        (tmp_path / part / "deep" / "1.mp4").write_bytes(b"")
    finder = VideoFinder(tmp_path)
    assert finder.find("1.mp4", "b").parts == (str(tmp_path / "b" / "deep" / "1.mp4"),)
    with pytest.raises(RowProblem):
        finder.find("../../etc/passwd", "a")


def test_mvbench_tells_two_sources_with_one_name_apart(tmp_path: Path) -> None:
    """CLEVRER and Perception Test both have a video_10009.mp4."""
    sources = ("perception/videos", "clevrer/video_validation")
    for source in sources:
        (tmp_path / "video" / source).mkdir(parents=True)
        (tmp_path / "video" / source / "video_10009.mp4").write_bytes(b"")
    finder = VideoFinder(tmp_path)
    tasks = {"object_shuffle": sources[0], "moving_count": sources[1]}
    for task, source in tasks.items():
        [row] = mvbench({PART: task, "question": "Q?", "video": "video_10009.mp4"})
        found = finder.find(row["_video"], task)
        assert found.parts == (str(tmp_path / "video" / source / "video_10009.mp4"),)
    with pytest.raises(RowProblem, match="could be any of"):
        finder.find("video_10009.mp4", "test")


@pytest.mark.parametrize("key", ["MMMUPro", "VMMMU"])
def test_forms_of_one_question_are_one_cluster(data_root: Path, key: str) -> None:
    """Three configurations of the same 1,730 questions, three tracks on the same 300 videos."""
    items = load_items(shipped()[key], data_root).items
    for item in items:
        assert item.cluster == item.id.split("/", 1)[1]


def test_questions_on_one_video_are_one_cluster(data_root: Path) -> None:
    for key in ("MMVU", "MVBench"):
        for item in load_items(shipped()[key], data_root).items:
            name = Path(item.cluster).name
            assert any(name in part for part in item.question.media[0].parts), key


def test_frame_folders_are_videos(data_root: Path) -> None:
    items = load_items(shipped()["MVBench"], data_root).items
    [clip] = [i for i in items if i.id == "episodic_reasoning/0"]
    assert len(clip.question.media[0].parts) == 4 and clip.question.media[0].fps == 3.0
    [part] = [i for i in items if i.id == "action_localization/0"]
    assert part.question.text.startswith("Consider the video from 0.5 to 2 seconds.")


def hub(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """A hub that has the tables of `found` by name; what was asked of it."""
    import datasets

    asked: list[tuple[str, Any, str]] = []

    def load_dataset(name: str, config: str | None = None, split: str = "") -> Any:
        asked.append((name, config, split))
        if name not in found:
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")
        return datasets.Dataset.from_list(found[name])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_the_hub_is_read_with_real_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"Q{i}?", "answer": str(i)} for i in range(3)]
    asked = hub(monkeypatch, {"opencompass/AIME2025": rows})
    loaded = load_items(shipped()["AIME25"])
    assert len(loaded.items) == 6 and loaded.where == "hf:opencompass/AIME2025"
    assert asked == [("opencompass/AIME2025", c, "test") for c in ("AIME2025-I", "AIME2025-II")]


def test_images_of_the_hub_stay_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({
        "question": datasets.Value("string"), "options": datasets.List(datasets.Value("string")),
        "answer": datasets.Value("string"), "image": datasets.Image(),
    })  # fmt: skip
    row = {"question": "Q?", "options": ["a", "b"], "answer": "1",
           "image": {"bytes": fixtures.png(3), "path": None}}  # fmt: skip
    table = datasets.Dataset.from_list([row], features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: table)
    [item] = load_items(shipped()["AI2D"]).items
    assert item.question.media[0].parts == (fixtures.png(3),)
    assert (item.question.answer, item.question.options) == ("B", ("a", "b"))


def test_a_moved_data_set_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": 5, "question": "Q?", "answer": "7"}]
    hub(monkeypatch, {"math-ai/aime26": rows})
    loaded = load_items(shipped()["AIME26"])
    assert loaded.where == "hf:math-ai/aime26" and loaded.items[0].id == "5"
    assert "MathArena/aime_2026" in loaded.tried[0] and "doesn't exist" in loaded.tried[0]
    hub(monkeypatch, {})
    with pytest.raises(DataError, match=r"none of its sources can be loaded(.|\n)*--data-root"):
        load_items(shipped()["AIME26"])


def test_a_limit_is_spread_evenly(data_root: Path) -> None:
    items = load_items(shipped()["VMMMU"], data_root, 3).items
    assert [i.id.split("/")[0] for i in items] == ["Perception", "Comprehension", "Adaptation"]
    assert evenly(items, 9) == items


def test_digests_follow_the_content(tmp_path: Path) -> None:
    folder = fixtures.build_one(tmp_path, shipped()["AIME26"])
    first = load_items(shipped()["AIME26"], tmp_path)
    assert load_items(shipped()["AIME26"], tmp_path, 1).digest == first.digest
    rewrite(folder, "train.jsonl", lambda i, r: r | {"answer": 71})
    assert load_items(shipped()["AIME26"], tmp_path).digest != first.digest


# -- readers ---------------------------------------------------------------------------------------


def test_directives_are_stripped() -> None:
    vblind = shipped()["VBlind"]
    cases = {
        "Count the number of rows and columns and answer with numbers in curly brackets. For "
        "example, rows={5} columns={6}": "Count the number of rows and columns",
        "How many paths? Answer with a number in curly brackets, e.g., {3}.": "How many paths?",
        "Which letter is circled? Please provide your answer in curly brackets, e.g. {a}": (
            "Which letter is circled?"
        ),
        "How many circles? Answer with only the number in numerical format.": "How many circles?",
        "Are they touching? Answer with Yes/No.": "Are they touching? Answer with Yes/No.",
    }
    for text, wanted in cases.items():
        assert prompt_text(text, vblind) == wanted
    assert prompt_text("<image1> How many?", shipped()["MVision"]) == "How many?"


def test_mmmu_pro_names_only_the_images_it_shows() -> None:
    images = {f"image_{k}": str(k).encode() for k in (1, 2, 3)}
    text = "See <image 3> and <image 1>."
    row = {PART: "x", "question": text, "options": "['<image 3>', 'no']", **images}
    [read] = mmmu_pro(row)
    assert read["_images"] == [b"1", b"3"]
    assert read["_question"] == "See (image 2) and (image 1)."
    assert read["options"] == ["(image 2)", "no"]
    for options in ("__import__('os')", "{'a': 1}", "[", None):
        with pytest.raises(RowProblem):
            list(mmmu_pro(row | {"options": options}))
    with pytest.raises(RowProblem, match="image_3"):
        list(mmmu_pro(row | {"image_3": None}))


@pytest.mark.parametrize(
    ("error", "answer", "correct", "gold"),
    [("ok", 2, None, "C"), ("wrong_groundtruth", 2, "0", "A"), ("wrong_groundtruth", 2, "B", "B"),
     ("bad_question_clarity", 2, "0", "C"), ("wrong_groundtruth", 2, None, "C")],
)  # fmt: skip
def test_mmlu_redux_corrects_its_key(error: str, answer: int, correct: Any, gold: str) -> None:
    [row] = mmlu_redux({"answer": answer, "error_type": error, "correct_answer": correct})
    assert row["_gold"] == gold


def test_gpqa_options_have_one_order(data_root: Path) -> None:
    items = load_items(shipped()["GPQA-D"], data_root).items
    for item in items:
        assert item.question.options is not None
        place = "ABCD".index(item.question.answer)
        assert item.question.options[place] == "right one"
    assert items == load_items(shipped()["GPQA-D"], data_root).items
    assert len({tuple(shuffled("abcd", str(i))) for i in range(50)}) > 10


def test_labels_of_options_are_taken_off() -> None:
    assert unlabelled(["A. Ann", "B. Bob"]) == ["Ann", "Bob"]
    assert unlabelled(["(A) Ann", "(B) Bob"]) == ["Ann", "Bob"]
    assert unlabelled(["B. Ann", "A. Bob"]) == ["B. Ann", "A. Bob"]
    assert unlabelled(["A", "B"]) == ["A", "B"]


def test_subtitles_are_read() -> None:
    srt = "\ufeff1\r\n00:00 --> 00:01\r\n<b>Hi</b>\r\nthere\r\n\r\n2\r\n00:01 --> 00:02\r\n\r\n"
    assert subtitles(srt) == "Hi there"
    assert subtitles("") == "" and subtitles("no times here") == ""


def test_worked_answers() -> None:
    assert [r["_gold"] for r in worked({"answer": "It is\n#### 1,234"})] == ["1234"]
    assert [r["_gold"] for r in worked({"answer": "18"})] == ["18"]


def test_multichallenge_takes_both_forms(tmp_path: Path) -> None:
    folder = fixtures.build_one(tmp_path, shipped()["MultiCh"])
    first = load_items(shipped()["MultiCh"], tmp_path).items
    rewrite(folder, "test.jsonl", lambda i, r: {  # columns as lists of roles and contents
        **{k: v for k, v in r.items() if k != "conversation"},
        "conversation": {k: [t[k] for t in r["conversation"]] for k in ("role", "content")},
    })  # fmt: skip
    assert load_items(shipped()["MultiCh"], tmp_path).items[0].turns == first[0].turns
    rewrite(folder, "test.jsonl", lambda i, r: {k.upper(): v for k, v in r.items()})
    assert load_items(shipped()["MultiCh"], tmp_path).items[0].question == first[0].question


def test_a_criterion_that_no_reply_can_meet_is_named(tmp_path: Path) -> None:
    """It would be a silent 0 whatever the judge says."""
    folder = fixtures.build_one(tmp_path, shipped()["MultiCh"])
    rewrite(folder, "test.jsonl", lambda i, r: r | {"pass_criteria": "yes " if i else "Maybe"})
    loaded = load_items(shipped()["MultiCh"], tmp_path)
    assert {i.question.answer for i in loaded.items} == {"YES"}
    assert loaded.unusable == ["test row 0, pass_criteria: 'MAYBE' is not YES or NO"]


# -- declarations ----------------------------------------------------------------------------------


def test_there_are_31() -> None:
    families = [b.family for b in shipped().values()]
    assert (families.count("vlm"), families.count("llm"), families.count("video")) == (16, 10, 5)
    for benchmark in shipped().values():
        assert (benchmark.license and benchmark.caveats) or benchmark.key == "EmbSp", benchmark.key


def test_choosing() -> None:
    assert len(choose(["vlm", "llm", "video"])) == 31
    assert [b.key for b in choose((), ["aime25", "AI2D"])] == ["AIME25", "AI2D"]
    assert len(choose(["llm"], ["AIME25", "AI2D"])) == 11
    with pytest.raises(ConfigError, match="Did you mean `MMLU-Pro`"):
        choose((), ["MMLU-pr"])
    with pytest.raises(ConfigError, match="no suite `text`"):
        choose(["text"])


OWN = {
    "key": "mine", "version": 1, "family": "llm", "name": "Mine", "sources": [{"file": "m.jsonl"}],
    "scorer": "boxed", "license": "mine",
}  # fmt: skip


def own(folder: Path, **changes: Any) -> Benchmark:
    file = folder / "mine.yaml"
    file.write_text(json.dumps(OWN | changes))
    return load(file)


def test_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"question": "1+1?", "answer": 2}\n')
    [item] = load_items(own(tmp_path)).items
    assert (item.question.text, item.question.answer) == ("1+1?", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"scorrer": "x"}, "scorrer"), ({"family": "audio"}, "family"), ({"version": 0}, "version"),
     ({"strip": ["("]}, "no regular expression"), ({"sources": []}, "sources")],
)  # fmt: skip
def test_a_wrong_declaration_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        own(tmp_path, **changes)


def test_columns_are_looked_for_before_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column `question`"):
        loading.require_columns(own(tmp_path), ["query", "answer"], "here")
