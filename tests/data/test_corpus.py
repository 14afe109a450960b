"""`zppo data build` on small copies of its sources: each filter counted, no kill leaves a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpus_files import RECIPE, mmf_row, picture, vero_row, write_shard
from zppo.config import DataConfig
from zppo.data import load_questions
from zppo.data.corpus import build as corpus_build
from zppo.data.corpus.build import CorpusBuild
from zppo.data.corpus.plan import Plan, make_plan, open_stores
from zppo.data.corpus.recipe import CorpusRecipe, load_recipe
from zppo.errors import ConfigError, DataError
from zppo.types import Question


def write_sources(root: Path) -> dict[str, Path]:
    vero, mmf = root / "vero", root / "mmf"
    shard = "train-0000{}-of-00002.parquet"
    faults = [
        vero_row(20, answer="x" * 21),
        vero_row(21, image={"bytes": None, "path": "gone.jpg"}),
        vero_row(22, image=picture(22, side=90)),
        vero_row(23, image={"bytes": b"not an image", "path": "a.jpg"}),
        vero_row(24, question=""),
        vero_row(
            25, question="<image>\n how MANY circles are in figure number 3", image=picture(3)
        ),
    ]
    ai2d = vero / "stem-ai2d_merged"
    write_shard(ai2d / shard.format(0), [vero_row(i) for i in range(9)])
    write_shard(ai2d / shard.format(1), [*(vero_row(i) for i in range(9, 12)), *faults])
    write_shard(vero / "stem-raven" / shard.format(0), [vero_row(i) for i in range(40, 50)])
    write_shard(vero / "stem-other" / shard.format(0), [vero_row(60)])
    geo = "FineVision-geo170k(qa)"
    write_shard(
        mmf / "data" / shard.format(0),
        [
            *(mmf_row(i, geo) for i in range(4)),
            *(mmf_row(i, geo, pass_rate=rate) for i, rate in ((5, 0.75), (6, 0.5), (7, None))),
            mmf_row(8, "FineVision-ai2d_merged"),
            mmf_row(9, "GameQA-140K"),
            mmf_row(3, geo, answer="another answer to it"),  # a duplicate within the source
        ],
    )
    return {"vero": vero, "mmfinereason": mmf}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sources(tmp_path_factory.mktemp("sources"))


def recipe_of(folder: Path, text: str = RECIPE) -> CorpusRecipe:
    file = folder / "little.yaml"
    file.write_text(text)
    return load_recipe(str(file))


def plan_of(folder: Path, sources: dict[str, Path], **options: Any) -> Plan:
    recipe = recipe_of(folder)
    return make_plan(recipe, open_stores(recipe, sources), **options)


def build(folder: Path, sources: dict[str, Path], name: str = "out", **options: Any) -> Path:
    plan = plan_of(folder, sources)
    CorpusBuild(plan.recipe, plan, folder / name, **options).run()
    return folder / name


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


def test_every_row_is_kept_or_counted(tmp_path: Path, sources: dict[str, Path]) -> None:
    out = build(tmp_path, sources)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["subsets"] == {"ai2d": 6, "geo": 5, "raven": 3}
    counts = manifest["counts"]
    first, second = counts["vero/ai2d"], counts["mmfinereason/geo"]
    faults = {
        "answer too long": 1,
        "image missing": 1,
        "image too small": 1,
        "corrupt image": 1,
        "no question": 1,
    }
    # Rows that would not be kept anyway are not decoded: such a fault counts as over the cap.
    assert first["read"] == 18 and first["kept"] == 6
    assert sum(n for what, n in first.items() if what != "read") == 18
    assert {what for what in first if what not in faults} <= {
        "read",
        "kept",
        "over the cap",
        "duplicate",
    }
    assert first["answer too long"] == first["no question"] == first["image missing"] == 1
    assert second == {
        "read": 8,
        "kept": 5,
        "pass_rate above its limit": 1,
        "no pass_rate": 1,
        "duplicate": 1,
    }
    assert counts["mmfinereason/ai2d"] == {"read": 1, "another source wins": 1}
    assert counts["mmfinereason/GameQA-140K"] == {"not in the recipe": 1}
    assert manifest["unused"] == ["vero/stem-other"] and manifest["missing"] == []
    assert manifest["licences"] == {"org/vero": "none", "org/mmf": "apache-2.0"}


def test_what_is_built_can_be_trained_on(tmp_path: Path, sources: dict[str, Path]) -> None:
    out = build(tmp_path, sources)
    data = load_questions(str(out / "train.jsonl"), DataConfig())
    assert data.report.skipped == 0 and len(data.questions) == 14
    first = data.questions[0]
    assert first.source == "ai2d/vero" and first.text.startswith("How many circles")
    used = {Path(image).name for row in rows(out) for image in row["images"]}
    assert used == {file.name for file in (out / "images").glob("*/*")}


def test_the_same_twice_and_however_the_files_are_cut(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    expected = rows(build(tmp_path, sources))
    assert rows(build(tmp_path, sources, "again")) == expected
    whole = write_sources(tmp_path / "copy")
    folder = whole["vero"] / "stem-raven"
    (folder / "train-00000-of-00002.parquet").unlink()
    write_shard(folder / "train-0.parquet", [vero_row(i) for i in range(49, 44, -1)])
    write_shard(folder / "train-1.parquet", [vero_row(i) for i in range(40, 45)])
    assert rows(build(tmp_path, whole, "other cut")) == expected


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(0, 40, 3))
def test_a_build_that_was_killed_goes_on(
    tmp_path: Path, sources: dict[str, Path], moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(build(tmp_path, sources, "whole"))
    real, calls = corpus_build.write_atomic, iter(range(1_000))

    def write(path: Path, content: bytes) -> None:
        if next(calls) == moment:
            raise Killed
        real(path, content)

    monkeypatch.setattr(corpus_build, "write_atomic", write)
    try:
        build(tmp_path, sources)
    except Killed:
        monkeypatch.setattr(corpus_build, "write_atomic", real)
        build(tmp_path, sources)
    out = tmp_path / "out"
    assert rows(out) == expected
    whole = json.loads((tmp_path / "whole/manifest.json").read_text())
    assert json.loads((out / "manifest.json").read_text()) == whole
    names = {file.name for file in (out / "images").glob("*/*")}
    assert names == {file.name for file in (tmp_path / "whole/images").glob("*/*")}


def test_the_disk_never_holds_more_than_one_file_too_many(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    """After each file, no image but those of the questions kept so far."""
    plan = plan_of(tmp_path, sources)
    job = CorpusBuild(plan.recipe, plan, tmp_path / "out")
    seen: list[int] = []

    def progress(name: str, number: int, total: int) -> None:
        seen.append(len(list((tmp_path / "out/images").glob("*/*"))))
        assert seen[-1] <= sum(len(kept) for kept in job.selection.subsets.values())

    job.run(progress)
    assert len(seen) == 4 and max(seen) <= 6 + 5 + 3


def test_long_prompts_are_left_out(tmp_path: Path, sources: dict[str, Path]) -> None:
    out = build(tmp_path, sources, length=lambda q: 5_000 if "drawing" in q.text else 10)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["subsets"]["geo"] == 0
    assert manifest["counts"]["mmfinereason/geo"]["prompt too long"] == 6
    assert manifest["max_prompt_tokens"] == 4096
    with pytest.raises(DataError, match="another recipe, source or length limit"):
        build(tmp_path, sources)


def test_a_row_of_which_no_prompt_can_be_made_does_not_end_the_build(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    def length(question: Question) -> int:
        if question.answer == "2" and "drawing" in question.text:
            raise DataError("an image of an extreme shape")
        return 10

    out = build(tmp_path, sources, length=length)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["mmfinereason/geo"]["no prompt can be made"] == 1
    assert manifest["subsets"]["geo"] == 4


def test_the_plan_reads_no_rows(
    tmp_path: Path, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zppo.data.corpus.shards.FolderStore.open", None)
    text = plan_of(tmp_path, sources).summary()
    assert "3 files" in text and "1 files" in text and "at most 15 questions" in text
    assert "licence: apache-2.0" in text and "not used: vero/stem-other" in text


def test_a_sub_data_set_that_is_gone_is_named(tmp_path: Path, sources: dict[str, Path]) -> None:
    recipe = recipe_of(tmp_path, RECIPE.replace("[stem-raven]", "[stem-raven_2]"))
    stores = open_stores(recipe, sources)
    with pytest.raises(DataError, match=r"No folder for vero/raven.*vero/stem-raven"):
        make_plan(recipe, stores)
    assert make_plan(recipe, stores, allow_missing=True).missing == ["vero/raven"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("answer", r"no column `answer`.*'solution'"),
        ("pass_rate", r"no column 'pass_rate'.*at_most"),
        ("source", r"no column 'source'.*subset"),
        ("image", None),
    ],
)
def test_renamed_columns_are_named_not_guessed(
    tmp_path: Path, sources: dict[str, Path], change: str, message: str | None
) -> None:
    row = mmf_row(0, "FineVision-geo170k(qa)")
    row["solution" if change == "answer" else "other"] = row.pop(change)
    if change == "image":
        row["other"] = row["other"]["bytes"]
    write_shard(tmp_path / "mmf/data/train-0.parquet", [row])
    changed = sources | {"mmfinereason": tmp_path / "mmf"}
    if message is None:
        out = build(tmp_path, changed)
        counts = json.loads((out / "manifest.json").read_text())["counts"]["mmfinereason/geo"]
        assert counts == {"read": 1, "image missing": 1}
        return
    with pytest.raises(DataError, match=message):
        build(tmp_path, changed)


def test_a_recipe_can_name_other_columns(tmp_path: Path, sources: dict[str, Path]) -> None:
    row = mmf_row(0, "FineVision-geo170k(qa)")
    row["solution"] = row.pop("answer")
    write_shard(tmp_path / "mmf/data/train-0.parquet", [row])
    text = RECIPE.replace("subset: source,", "subset: source, columns: {answer: solution},")
    recipe = recipe_of(tmp_path, text)
    plan = make_plan(recipe, open_stores(recipe, sources | {"mmfinereason": tmp_path / "mmf"}))
    CorpusBuild(recipe, plan, tmp_path / "out").run()
    assert sum(row["source"] == "geo/mmfinereason" for row in rows(tmp_path / "out")) == 1


def test_a_damaged_file_is_named(tmp_path: Path, sources: dict[str, Path]) -> None:
    (tmp_path / "mmf/data").mkdir(parents=True)
    (tmp_path / "mmf/data/train-0.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match=r"data/train-0\.parquet: cannot read it"):
        build(tmp_path, sources | {"mmfinereason": tmp_path / "mmf"})


def test_the_shipped_recipe_is_the_papers() -> None:
    recipe = load_recipe("zppo-77k")
    assert recipe.caps == {1: 2800, 2: 1400}
    assert recipe.filters.max_answer_chars == 512 and recipe.filters.min_image_side == 100
    assert recipe.sources[1].at_most == {"pass_rate": 0.5}
    tiers = [s.tier for s in recipe.subsets]
    assert (tiers.count(1), tiers.count(2)) == (21, 19)
    assert sum(recipe.cap(s.name) for s in recipe.subsets) == 85_400  # the paper keeps about 77K


def bad_recipes() -> Iterator[tuple[str, str]]:
    yield RECIPE.replace("seed: 5", "sed: 5"), "sed"
    yield RECIPE.replace("tier: 2", "tier: 3"), "no cap for tier 3"
    yield RECIPE.replace("vero: [stem-raven]", "verro: [stem-raven]"), "no source `verro`"
    yield RECIPE.replace("[stem-raven]", "[stem_AI2D merged]"), "twice"
    yield "[", "Cannot read corpus recipe"


@pytest.mark.parametrize(("text", "message"), list(bad_recipes()))
def test_mistakes_in_a_recipe_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(tmp_path, text)
    with pytest.raises(ConfigError, match="Did you mean `zppo-77k`"):
        load_recipe("zppo-77")
