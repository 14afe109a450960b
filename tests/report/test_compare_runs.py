from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tests.runs.fakes import fake_build, fake_config
from zppo.config import Config, LocalTeacherConfig, ScriptedTeacherConfig
from zppo.errors import ConfigError, RunError
from zppo.report.compare import Comparison, difference, family_accuracy
from zppo.report.compare_runs import compare_runs, group_runs
from zppo.report.reading import Run, read_run
from zppo.runs.build import RunParts
from zppo.runs.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods by two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("zppo", "grpo+replay"):
        for seed in (0, 1):
            start(folder / f"{method}-{seed}", f"method={method}", f"seed={seed}")
    return folder


def start(root: Path, *overrides: str) -> Path:
    train(fake_config(root, "evaluation.every=3", *overrides), build=fake_build, quiet=True)
    return root


def all_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_seeds_of_a_method_are_one_entry(folder: Path) -> None:
    found = compare_runs(all_of(folder))
    assert [(e.name, e.seeds) for e in found.entries] == [
        ("grpo+replay", (0, 1)),
        ("zppo", (0, 1)),
    ]
    assert (found.baseline, found.unit, found.notes) == ("grpo+replay", "questions", ())


def test_accuracies_are_those_of_the_runs(folder: Path) -> None:
    found = compare_runs(all_of(folder))
    for entry in found.entries:
        runs = [read_run(path) for path in entry.sources]
        for family in ("image", "text", "all"):
            expected = [run.evaluations[-1].accuracy[family] for run in runs]
            measured = family_accuracy(entry, family, found)
            assert measured is not None
            assert measured.mean == pytest.approx(sum(expected) / 2)


def test_an_earlier_evaluation(folder: Path) -> None:
    found = compare_runs(all_of(folder), step=3)
    run = read_run(folder / "zppo-0")
    measured = family_accuracy(
        compare_runs([folder / "zppo-0"], step=3).entries[0], "all", single(folder)
    )
    assert measured is not None
    assert measured.mean == pytest.approx(run.evaluations[1].accuracy["all"])
    ours = next(e for e in found.entries if e.name == "zppo")
    tokens = [
        sum(m["tokens/sampled"] for m in read_run(p).metrics if m["step"] <= 3)
        for p in ours.sources
    ]
    assert ours.cost["tokens"] == pytest.approx(sum(tokens) / 2)
    with pytest.raises(RunError, match="no accuracy by question after step 2"):
        compare_runs(all_of(folder), step=2)


def single(folder: Path) -> Comparison:
    return compare_runs([folder / "zppo-0"])


def test_graduation_and_cost_are_means_over_seeds(folder: Path) -> None:
    ours = next(e for e in compare_runs(all_of(folder)).entries if e.name == "zppo")
    runs = [read_run(path) for path in ours.sources]
    for key, fate in ours.graduation.items():
        for name in ("admitted", "graduated", "evicted"):
            total = sum(run.summed(f"buffer/{name}_from").get(key, 0) for run in runs)
            assert getattr(fate, name) == total / 2
    assert sum(f.admitted or 0 for f in ours.graduation.values()) > 0
    update = sum(run.total("time/update") for run in runs) / 2
    assert ours.cost["time/update"] == pytest.approx(update)
    assert "FLOPs" not in ours.cost  # the student of these runs has no parameters to count


def test_difference_follows_from_the_runs(folder: Path) -> None:
    found = compare_runs(all_of(folder))
    delta = difference(found.entries[1], found.base, "all", "questions")
    assert delta is not None and delta.seeds is not None
    means = {path.name: read_run(path).evaluations[-1].accuracy["all"] for path in all_of(folder)}
    by_seed = [means[f"zppo-{s}"] - means[f"grpo+replay-{s}"] for s in (0, 1)]
    assert delta.delta.mean == pytest.approx(sum(by_seed) / 2)
    assert delta.seeds.mean == pytest.approx(sum(by_seed) / 2)
    assert delta.delta.wins + delta.delta.ties + delta.delta.losses == 12


def test_settings_that_differ_are_in_the_name(folder: Path, tmp_path: Path) -> None:
    other = start(tmp_path / "tau", "algorithm.hard_threshold=0.25")
    found = compare_runs([folder / "zppo-0", folder / "grpo+replay-0", other])
    assert [e.name for e in found.entries] == [
        "grpo+replay algorithm.hard_threshold=0.5",
        "zppo algorithm.hard_threshold=0.25",
        "zppo algorithm.hard_threshold=0.5",
    ]
    assert found.baseline == "grpo+replay algorithm.hard_threshold=0.5"
    runs = [folder / "zppo-0", folder / "grpo+replay-0", other]
    assert compare_runs(runs, baseline="grpo+replay").baseline == found.baseline
    with pytest.raises(ConfigError, match="no `zppo` to compare with"):
        compare_runs(runs, baseline="zppo")  # there are two of them


def test_where_and_how_fast_a_run_ran_makes_no_difference(folder: Path, tmp_path: Path) -> None:
    seed = start(tmp_path / "elsewhere", "seed=2", "student.threads=2", "run.keep_checkpoints=5")
    found = compare_runs([folder / "zppo-0", seed])
    assert [(e.name, e.seeds) for e in found.entries] == [("zppo", (0, 2))]


def test_the_teacher_is_only_a_difference_between_methods_that_have_one(folder: Path) -> None:
    runs = [read_run(path) for path in all_of(folder)]
    local = LocalTeacherConfig(model="a/b")
    assert isinstance(runs[0].config.teacher, ScriptedTeacherConfig)
    # grpo+replay without a teacher, zppo with: still named by their methods alone.
    bare = [_with_teacher(run, None if "grpo" in run.config.method else local) for run in runs]
    assert list(group_runs(bare)) == ["grpo+replay", "zppo"]


def _with_teacher(run: Run, teacher: LocalTeacherConfig | None) -> Run:
    return dataclasses.replace(run, config=run.config.model_copy(update={"teacher": teacher}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run.steps=3"], r"run\.steps differs: 6 in `.*zppo-0`; 3 in `.*other`"),
        (["run.prompts_per_step=4"], r"run\.prompts_per_step differs"),
        (["evaluation.temperature=0.5"], r"evaluation\.temperature differs"),
        (["student.model=lab-teacher"], r"student\.model differs: lab in .*; lab-teacher in"),
    ],
)
def test_runs_that_are_no_comparison_are_refused(
    folder: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    other = start(tmp_path / "other", "method=grpo", *overrides)
    with pytest.raises(RunError, match=message):
        compare_runs([folder / "zppo-0", other])
    found = compare_runs([folder / "zppo-0", other], anyway=True)
    assert any(overrides[0].partition("=")[0] in note for note in found.notes)


def test_other_training_data_is_named(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "grpo+replay-0", other)
    for state in other.glob("checkpoints/*/state.json"):
        tree = json.loads(state.read_text())
        state.write_text(json.dumps(tree | {"data_sha256": "f" * 64}))
    with pytest.raises(RunError, match=r"the training data differs: .*ffffffff"):
        compare_runs([folder / "zppo-0", other])


def test_without_a_checkpoint_the_files_are_compared(folder: Path, tmp_path: Path) -> None:
    for name, limit in (("same", "null"), ("other", "9")):
        shutil.copytree(folder / "grpo+replay-0", tmp_path / name)
        shutil.rmtree(tmp_path / name / "checkpoints")
        config = tmp_path / name / "config.yaml"
        config.write_text(config.read_text().replace("  limit: null", f"  limit: {limit}", 1))
    assert not compare_runs([folder / "zppo-0", tmp_path / "same"]).notes
    with pytest.raises(RunError, match=r"the training data differs: lab:train, limit None in"):
        compare_runs([folder / "zppo-0", tmp_path / "other"])


def test_an_unfinished_run_is_named_and_shown_as_far_as_it_came(
    folder: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(folder / "grpo+replay-0", cut)
    lines = (cut / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join(lines[:4]))
    rows = (cut / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (cut / "evaluations.jsonl").write_text("".join(rows[:2]))
    with pytest.raises(RunError, match=r"`.*cut` is unfinished: 4 of 6 steps"):
        compare_runs([folder / "zppo-0", cut])
    found = compare_runs([folder / "zppo-0", cut], anyway=True)
    assert found.title == "After step 3" and "unfinished" in found.notes[0]
    assert not compare_runs([folder / "zppo-0", cut], step=3).notes


def test_other_validation_questions_cannot_be_paired(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "grpo+replay-0", other)
    file = other / "accuracies" / "step-000006.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:7]))
    with pytest.raises(RunError, match=r"on 7 questions, .* on 12; 7 of them are the same"):
        compare_runs([folder / "zppo-0", other], anyway=True)


def test_the_same_run_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "zppo-0", tmp_path / "copy")
    with pytest.raises(RunError, match=r"same run twice: same settings, same seed 0"):
        compare_runs([folder / "zppo-0", tmp_path / "copy"])


def test_seeds_that_differ_are_a_note(folder: Path) -> None:
    found = compare_runs([folder / "zppo-0", folder / "zppo-1", folder / "grpo+replay-1"])
    assert found.notes == (
        "Seeds differ, so a difference is taken over the shared ones (grpo+replay: 1; zppo: 0, 1).",
    )


def test_a_run_that_was_never_evaluated(tmp_path: Path) -> None:
    def without_validation(config: Config) -> RunParts:
        parts = fake_build(config)
        return dataclasses.replace(parts, data=dataclasses.replace(parts.data, validation=[]))

    config = fake_config(tmp_path / "run", "data.validation=null")
    train(config, build=without_validation, quiet=True)
    with pytest.raises(RunError, match=r"has no evaluation; it needs a data\.validation"):
        compare_runs([tmp_path / "run"])
