"""All benchmarks end to end against a mock endpoint and a mock judge."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import fixtures, judges
from tests.teacher.server import Server
from zppo.errors import ConfigError, DataError, RunError, TeacherError
from zppo.evaluation import results
from zppo.evaluation.benchmark import shipped
from zppo.evaluation.files import read_lines
from zppo.runs.benchmarks import Request, run_benchmarks

#: What the obedient model scores on the made data; by hand, from `fixtures.py`.
EXPECTED = {
    **dict.fromkeys(
        ("AI2D", "BabyV", "EmbSp", "InfoVQA", "MVerse", "MVision", "MVista", "MM-Vet", "VisP"), 0.75
    ),
    # Reasoning: one curve named wrongly, one asked as a number. Descriptive: all right.
    "CharXiv": (0.5 + 1.0) / 2,
    "DynaM": 19 / 20,
    "MMMUPro": 6 / 12,  # in the third configuration the question stands in the image
    "VBlind": 0.75,
    "WeMath": (1.0 + 0.5 + 0.0) / 3,
    **dict.fromkeys(
        ("AIME25", "AIME26", "GPQA-D", "HLE", "IMO-AB", "MMLU", "MMLU-Pro", "MultiCh"), 0.75
    ),
    **dict.fromkeys(("CEval", "MMLU-Rd", "MVBench"), 0.5),  # two rows a part, one of them wrong
    **dict.fromkeys(("MMVU", "VMME", "VMMES", "VMMMU"), 0.75),
}
#: Their metric is lmms-eval's: test_ocrbench.py.
DELEGATED = {"OCREN", "OCRZH"}


def request(server: Server, judge: Server | None, data_root: Path, output: Path, *keys: str):
    return Request(
        target="mock",
        endpoint=server.url,
        judge_endpoint=judge.url if judge else None,
        judge_model="judge" if judge else None,
        names=keys or [k for k in shipped() if k not in DELEGATED],
        data_root=data_root,
        output=output,
        overrides=["rewards.isolate=false"],
    )


def questions(server: Server) -> list[dict[str, Any]]:
    """Requests but those that see whether the server is there."""
    return [s.body for s in server.seen if "Reply with the word ready." not in str(s.body)]


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory):
    """One evaluation of all, with what both servers saw."""
    folder = tmp_path_factory.mktemp("whole")
    with Server(fixtures.oracle) as server, Server(judges.honest) as judge:
        result, _ = run_benchmarks(request(server, judge, data_root, folder))
        return result, folder, questions(server), questions(judge)


def test_every_benchmark_scores_what_it_should(whole: Any) -> None:
    result = whole[0]
    assert not result["failed"]
    scores = {key: entry["score"] for key, entry in result["benchmarks"].items()}
    assert scores == pytest.approx(EXPECTED)
    assert set(EXPECTED) | DELEGATED == set(shipped())


def test_parts_of_the_scores(whole: Any) -> None:
    parts = {key: entry["parts"] for key, entry in whole[0]["benchmarks"].items()}
    assert parts["DynaM"]["worst"] == 0.5
    assert parts["MMMUPro"]["vision"] == 0.0 and parts["MMMUPro"]["standard (4 options)"] == 0.75
    assert parts["WeMath"]["loose"] == pytest.approx(2.5 / 3)
    assert parts["WeMath"]["strict/RM"] == pytest.approx(1 / 3)
    assert parts["CharXiv"]["reasoning"] == 0.5 and parts["CharXiv"]["descriptive"] == 1.0
    assert parts["VBlind"]["Counting Grid"] == 0.5


def test_families_are_macro_averages(whole: Any) -> None:
    families = whole[0]["families"]
    video = [EXPECTED[k] for k, b in shipped().items() if b.family == "video"]
    assert families["video"]["score"] == pytest.approx(sum(video) / 5)
    assert (families["vlm"]["benchmarks"], families["vlm"]["of"]) == (14, 16)
    assert families["llm"]["benchmarks"] == families["llm"]["of"] == 10


def test_the_settings_of_the_paper_are_sent_and_recorded(whole: Any) -> None:
    result, _, asked, _ = whole
    for body in asked:
        assert (body["temperature"], body["top_p"], body["top_k"]) == (0.6, 0.95, 20)
        assert (body["presence_penalty"], body["max_tokens"]) == (1.5, 12_288)
    settings = result["settings"]
    assert settings["decoding"]["presence_penalty"] == 1.5
    assert settings["media"] == {
        "min_pixels": 256 * 32 * 32,
        "max_pixels": 1280 * 32 * 32,
        "video_fps": 2.0,
        "max_frames": 64,
    }
    for entry in result["benchmarks"].values():
        assert entry["version"] >= 1 and entry["scorer"]["version"] >= 1
        assert len(entry["data"]["digest"]) == 16
        assert entry["scorer"]["rule"] == "robust"
        assert entry["judge_max_tokens"] == (512 if entry["judge"] else None)
    assert {"zppo", "torch", "transformers"} <= set(result["versions"])


def test_every_prompt_ends_in_the_closer_of_training(whole: Any) -> None:
    for body in whole[2]:
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        assert text.endswith(whole[0]["settings"]["closer"])
        assert "curly bracket" not in text and "directly answer" not in text


def test_media_reach_the_endpoint(whole: Any) -> None:
    """An image arrives pixel by pixel, a video as its frames in order."""
    by_text = {str(body["messages"][-1]["content"][-1]): body for body in whole[2]}
    ai2d = next(b for t, b in by_text.items() if "Which of test is number 0" in t)
    parts = [p for p in ai2d["messages"][-1]["content"] if p["type"] == "image_url"]
    assert any(_same(parts[0], fixtures.png(0)) for _ in [0])
    film = next(b for t, b in by_text.items() if "Who, 0?" in t and "Subtitles" not in t)
    frames = [p for p in film["messages"][-1]["content"] if p["type"] == "image_url"]
    levels = [np.asarray(_decode(frame)).mean() for frame in frames]
    assert len(frames) == 6 and levels == sorted(levels)
    subtitled = next(b for t, b in by_text.items() if "Subtitles of the video" in t)
    assert "Hello & welcome" in str(subtitled["messages"])


def test_a_conversation_is_sent_turn_by_turn(whole: Any) -> None:
    [first, *_] = [b for b in whole[2] if len(b["messages"]) > 1]
    assert [m["role"] for m in first["messages"]] == ["user", "assistant", "user"]


def test_criteria_of_multichallenge_are_hidden(whole: Any) -> None:
    assert not [b for b in whole[2] if "free of nuts" in str(b)]
    asked = [b for b in whole[3] if "free of nuts" in str(b)]
    # Two desserts among four replies: what is the same is asked once.
    assert len(asked) == 2 and not [b for b in asked if "allergic" in str(b)]


def test_judges_are_asked_only_where_they_decide(whole: Any) -> None:
    judged = {k: e["judged"].get("asked", 0) for k, e in whole[0]["benchmarks"].items()}
    assert judged["InfoVQA"] == 0 and judged["MMLU"] == 0  # another letter needs no judge
    assert judged["MM-Vet"] == judged["HLE"] == judged["MultiCh"] == 4
    assert judged["CharXiv"] == 20 and judged["MMVU"] == 2
    assert judged["AIME26"] == 1  # the one that the rule refused
    assert sum(judged.values()) == 48 and len(whole[3]) == 41  # the same is asked once
    for body in whole[3]:
        assert (body["temperature"], body["max_tokens"]) == (0.0, 512)


def test_nothing_is_asked_twice(whole: Any, data_root: Path) -> None:
    before, folder, *_ = whole
    with Server(fixtures.oracle) as server, Server(judges.honest) as judge:
        result, _ = run_benchmarks(request(server, judge, data_root, folder))
        assert not questions(server) and not questions(judge)
    assert result["benchmarks"] == before["benchmarks"]


def test_scores_by_question_are_written(whole: Any) -> None:
    result, folder, *_ = whole
    lines = read_lines(folder / result["benchmarks"]["WeMath"]["scores"])
    assert len(lines) == 9 and {line["cluster"] for line in lines} == {"0", "1", "2"}
    assert {line["score"] for line in lines} == {0.0, 1.0}
    written = json.loads((folder / "result.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(result))


def test_a_second_sample_keeps_the_first(data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        first = request(server, None, data_root, tmp_path, "MMLU")
        run_benchmarks(first)
        more = replace(first, overrides=[*first.overrides, "evaluation.samples=3"])
        result, _ = run_benchmarks(more)
        assert len(questions(server)) == 4 + 4  # then two samples a request
        assert [body.get("n", 1) for body in questions(server)] == [1] * 4 + [2] * 4
    entry = result["benchmarks"]["MMLU"]
    assert (entry["score"], entry["n"], entry["samples"]) == (0.75, 4, 3)
    assert len(read_lines(tmp_path / "MMLU" / "predictions.jsonl")) == 12
    assert len({body["seed"] for body in questions(server)}) == 8


def test_errors_are_not_zeros(data_root: Path, tmp_path: Path) -> None:
    """A server that refuses one question: it is recorded, is not in the score, is asked again."""

    def default(number: int) -> str:
        return "400" if number == 2 else "ok"

    with Server(fixtures.oracle, default) as server:
        asked = replace(request(server, None, data_root, tmp_path, "MMLU"), concurrency=1)
        result, _ = run_benchmarks(asked)
        entry = result["benchmarks"]["MMLU"]
        assert (entry["n"], entry["errors"], entry["complete"]) == (3, 1, False)
        assert entry["score"] == pytest.approx(2 / 3)
        assert entry["error_rows"] == [["1", 0, "http_400"]]
        result, _ = run_benchmarks(asked)
        entry = result["benchmarks"]["MMLU"]
        assert (entry["n"], entry["score"], entry["complete"]) == (4, 0.75, True)
        assert len(questions(server)) == 5


#: What the readers make of many more is in test_scorers.py.
NONSENSE = [
    "",
    "correct",
    '{"verdict": "correct", "verdict": "wrong"}',
    '<think>a</think>{"verdict": "correct"}</think>{"verdict": "correct"}',
]


def test_nonsense_of_a_judge_is_never_correct(data_root: Path, tmp_path: Path) -> None:
    keys = ["AIME26", "CharXiv", "HLE", "MM-Vet", "MMVU", "MultiCh"]  # one of each judge
    rule_only = {}
    with Server(fixtures.oracle) as server:
        for number, nonsense in enumerate(NONSENSE):
            default = "ok" if nonsense else "blank"
            with Server(lambda body, k, n=nonsense: n or " ", default) as judge:
                folder = tmp_path / "same"
                asked = request(server, judge, data_root, folder, *keys)
                try:
                    result, _ = run_benchmarks(replace(asked, judge_model=f"judge {number}"))
                except TeacherError:  # nothing but blank replies: no verdicts at all
                    assert not nonsense
                    continue
            for key, entry in result["benchmarks"].items():
                judged = entry["judged"]
                assert judged.get("judge_malformed", 0) == judged.get("asked", 0), (key, nonsense)
                rule = rule_only.setdefault(key, entry["score"])
                assert entry["score"] == rule, (key, nonsense)
                if shipped()[key].scorer in ("hle", "mmvet", "multichallenge", "charxiv"):
                    assert entry["score"] == 0.0
        assert len(questions(server)) == 4 + 20 + 4 * 4  # asked once, scored often


def test_a_judge_that_fails_gives_no_verdict(data_root: Path, tmp_path: Path) -> None:
    """One failed call: no verdict for its row, asked again the next time."""
    with Server(fixtures.oracle) as server, Server(judges.honest) as judge:
        judge.orders = ["ok", "400"]  # the first is the check
        asked = request(server, judge, data_root, tmp_path, "HLE")
        result, _ = run_benchmarks(asked)
        entry = result["benchmarks"]["HLE"]
        assert (entry["n"], entry["errors"]) == (3, 1)
        assert entry["error_rows"][0][2] == "judge_error"
        result, _ = run_benchmarks(asked)
        assert result["benchmarks"]["HLE"]["score"] == 0.75
        assert len(questions(judge)) == 5


def test_other_settings_need_another_folder(data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "MMLU")
        run_benchmarks(asked)
        hotter = replace(asked, overrides=[*asked.overrides, "evaluation.temperature=1.0"])
        with pytest.raises(RunError, match=r"other settings.*\n.*decoding"):
            run_benchmarks(hotter)


def test_a_server_and_this_process_do_not_share_a_folder(data_root: Path, tmp_path: Path) -> None:
    """The same name, asked in another way: the two would be mixed in one score."""
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "MMLU")
        run_benchmarks(replace(asked, predict_only=True))
    with pytest.raises(RunError, match=r"other settings.*\n.*engine: .*endpoint.* there"):
        run_benchmarks(replace(asked, endpoint=None))


def test_a_limit_beyond_the_data_is_none(data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "MMLU")
        limits = [
            run_benchmarks(replace(asked, limit=n))[0]["benchmarks"]["MMLU"]["limit"]
            for n in (2, 4, 50)
        ]
    assert limits == [2, None, None]


def test_a_sample_that_splits_problems_says_so(data_root: Path, tmp_path: Path) -> None:
    """Every other row of We-Math holds no whole problem: no score, and the reader is told why."""
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "WeMath", "DynaM", "MMLU")
        result, _ = run_benchmarks(replace(asked, limit=3))
    assert result["benchmarks"]["WeMath"]["score"] is None
    notes = "\n".join(results.notes(result))
    assert "WeMath: 3 problems lack a verdict" in notes
    assert "WeMath: no score" in notes and "DynaM: 2 questions lack a verdict" in notes
    assert result["families"]["vlm"]["benchmarks"] == 1
    assert not result["families"]["llm"]["complete"]  # three of four questions


def test_responses_for_later_leave_earlier_scores_alone(data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "MMLU")
        first, _ = run_benchmarks(asked)
        later, _ = run_benchmarks(replace(asked, names=["AIME26"], predict_only=True))
    assert later["families"] == first["families"] != {}
    assert later["benchmarks"] == first["benchmarks"]


def test_changed_data_needs_another_folder(tmp_path: Path) -> None:
    folder = fixtures.build_one(tmp_path / "data", shipped()["MMLU"])
    with Server(fixtures.oracle) as server:
        asked = request(server, None, tmp_path / "data", tmp_path / "out", "MMLU")
        run_benchmarks(asked)
        file = folder / "all.test.jsonl"
        file.write_text(file.read_text().replace("Which of", "Which among"))
        with pytest.raises(RunError, match="given to another prompt"):
            run_benchmarks(asked)


def test_a_benchmark_without_data_does_not_stop_the_others(data_root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    broken.mkdir()
    os.symlink(data_root / "MMLU", broken / "MMLU")
    with Server(fixtures.oracle) as server:
        result, _ = run_benchmarks(request(server, None, broken, tmp_path / "o", "MMLU", "AIME26"))
        assert result["benchmarks"]["MMLU"]["score"] == 0.75
        assert "there is no folder" in result["failed"]["AIME26"]
        with pytest.raises(DataError, match="there is no folder"):
            run_benchmarks(request(server, None, broken, tmp_path / "p", "AIME26"))


def test_what_only_a_judge_can_score_needs_one(data_root: Path, tmp_path: Path) -> None:
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "HLE", "MMLU")
        with pytest.raises(ConfigError, match="HLE: only a judge"):
            run_benchmarks(asked)
        run_benchmarks(replace(asked, predict_only=True))
        assert len(questions(server)) == 8
    with Server(judges.honest) as judge:  # the model is gone; its responses are scored
        later = request(server, judge, data_root, tmp_path, "HLE", "MMLU")
        result, _ = run_benchmarks(replace(later, score_only=True))
    assert result["benchmarks"]["HLE"]["score"] == 0.75


def test_official_judge_prompts_take_the_place_of_ours(data_root: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "hle.j2").write_text("Official words. {{ question }} {{ answer }} {{ response }}")
    reply = "extracted_final_answer: 42\nreasoning: same\ncorrect: yes\nconfidence: 100%"
    with Server(fixtures.oracle) as server, Server(lambda body, k: reply) as judge:
        asked = request(server, judge, data_root, tmp_path / "o", "HLE")
        result, _ = run_benchmarks(replace(asked, judge_prompts=prompts))
        assert all("Official words." in str(body) for body in questions(judge))
        with_ours = request(server, judge, data_root, tmp_path / "o", "HLE")
        ours, _ = run_benchmarks(with_ours)
    assert result["benchmarks"]["HLE"]["score"] == 1.0
    hashes = [r["benchmarks"]["HLE"]["judge_prompts"]["hle"] for r in (result, ours)]
    assert hashes[0] != hashes[1]


def test_a_model_in_this_process_may_judge(data_root: Path, tiny_vlm: Path, tmp_path: Path) -> None:
    """A tiny model talks nonsense: malformed, wrong, counted."""
    with Server(fixtures.oracle) as server:
        asked = request(server, None, data_root, tmp_path, "HLE")
        run_benchmarks(replace(asked, predict_only=True))
    local = ["judge.kind=local", f"judge.model={tiny_vlm}", "rewards.judge_max_tokens=16"]
    later = replace(asked, score_only=True, overrides=[*asked.overrides, *local])
    entry = run_benchmarks(later)[0]["benchmarks"]["HLE"]
    assert entry["judged"]["judge_malformed"] == entry["judged"]["asked"] == 4
    assert (entry["score"], entry["errors"], entry["judge"]) == (0.0, 0, str(tiny_vlm))


_CHILD = """
import sys
from pathlib import Path
from tests.evaluation.test_endpoint import request
from zppo.runs.benchmarks import Request, run_benchmarks
url, root, out = sys.argv[1:]
run_benchmarks(Request(target="mock", endpoint=url, names=["MMLU-Rd"], data_root=Path(root),
                       output=Path(out), concurrency=2, overrides=["rewards.isolate=false"]))
"""


def test_a_killed_evaluation_goes_on_without_asking_twice(data_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "MMLU-Rd" / "predictions.jsonl"
    with Server(fixtures.oracle, latency=0.05) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, server.url, str(data_root), str(tmp_path)],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not file.is_file() or len(read_lines(file)) < 20):
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        before = {(line["id"], line["sample"]) for line in read_lines(file)}
        assert 20 <= len(before) < 114
        with file.open("ab") as out:  # a line that the kill cut short
            out.write(b'{"id": "abstract_algebra/0", "sam')
        server.latency = 0.0
        seen = len(server.seen)
        result, _ = run_benchmarks(request(server, None, data_root, tmp_path, "MMLU-Rd"))
        asked = questions(server)
    entry = result["benchmarks"]["MMLU-Rd"]
    assert (entry["n"], entry["score"], entry["complete"]) == (114, 0.5, True)
    lines = read_lines(file)
    assert Counter((line["id"], line["sample"]) for line in lines).most_common(1)[0][1] == 1
    # What was written is not asked again; only requests in flight at the kill may be.
    assert len(server.seen) - seen == 114 - len(before) + 1  # and the check
    assert 114 <= len(asked) <= 114 + 2


def _decode(part: dict[str, Any]) -> Image.Image:
    data = part["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def _same(part: dict[str, Any], content: bytes) -> bool:
    wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    return np.array_equal(np.asarray(_decode(part)), wanted)
