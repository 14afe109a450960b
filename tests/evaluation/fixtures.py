"""Small data in the form of each of the 31 benchmarks, made from their schemas.

Every question ends in `say: X`. A model that boxes X is right on all questions but the last of
each part, whose X is wrong. The first user of a folder pays for it; tests share one.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from zppo.evaluation.benchmark import Benchmark, shipped

Rows = list[dict[str, Any]]
#: Rows a part of a benchmark with one or few parts; those with many have `FEW`.
SEVERAL, FEW = 4, 2
SAY = re.compile(r"say: (.+?)\s*$", re.MULTILINE)


def build(root: Path) -> Path:
    """A data root with all 31."""
    for benchmark in shipped().values():
        build_one(root, benchmark)
    return root


def build_one(root: Path, benchmark: Benchmark) -> Path:
    """`root/KEY` with its rows and media."""
    folder = root / benchmark.key
    folder.mkdir(parents=True)
    parts = benchmark.sources[0].parts
    count = SEVERAL if len(parts) <= 3 else FEW
    for number, (config, split) in enumerate(parts):
        rows = _MAKERS[benchmark.key](folder, config or split, count)
        for index, row in enumerate(rows):
            row.setdefault("id", f"{number}-{index}")
        stem = ".".join(filter(None, (config, split)))
        if benchmark.key in _PARQUET:
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{stem}.parquet")
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    return folder


def oracle(body: dict[str, Any], k: int) -> str:
    """What the obedient model answers to a chat request."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return obey(text)


def obey(text: str) -> str:
    """A response that does what the question says."""
    said = SAY.findall(text)
    return f"<think>I was told.</think>\nThe answer is \\boxed{{{said[-1] if said else '?'}}}."


def png(seed: int, width: int = 40, height: int = 28) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def video(path: Path, seed: int = 0, frames: int = 6) -> None:
    """A video of `frames` plain frames whose grey level is 40 * (frame number), at 2 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for n in range(frames):
            pixels = np.full((32, 32, 3), 40 * n + seed, dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())


def _picture(folder: Path, seed: int) -> str:
    """A path inside `folder` of a new picture."""
    file = folder / "images" / f"{seed}.png"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(png(seed))
    return f"images/{seed}.png"


def _says(right: str, wrong: str, index: int, count: int) -> str:
    return f"say: {wrong if index == count - 1 else right}"


def _choice(folder: Path, part: str, count: int, **names: str) -> Rows:
    """Rows of a multiple-choice benchmark; the gold option is the one at `index % 4`."""
    rows: Rows = []
    for i in range(count):
        gold = i % 4
        letter, other = "ABCD"[gold], "ABCD"[(gold + 1) % 4]
        rows.append(
            {
                names.get("question", "question"): f"Which of {part} is number {i}?\n"
                + _says(letter, other, i, count),
                names.get("options", "options"): ["red", "green", "blue", "grey"],
                names.get("answer", "answer"): {"index": gold, "letter": letter}[
                    names.get("gold", "letter")
                ],
            }
        )
    return rows


def _with(rows: Rows, folder: Path, more: Callable[[int], dict[str, Any]] = lambda i: {}) -> Rows:
    return [row | {"image": _picture(folder, i)} | more(i) for i, row in enumerate(rows)]


def _ai2d(folder: Path, part: str, count: int) -> Rows:
    rows = _choice(folder, part, count, gold="index")
    return [
        row | {"answer": str(row["answer"]), "image": {"bytes": png(i), "path": None}}
        for i, row in enumerate(rows)
    ]


def _babyv(folder: Path, part: str, count: int) -> Rows:
    rows = _choice(folder, part, count, gold="index")
    found = []
    for i, row in enumerate(rows):
        blank = i % 2 == 1
        gold = "ABCD"[row["answer"]]
        found.append(
            {
                "taskId": 100 + i,
                "question": f"Look closely, {i}.\n"
                + _says("(3,4)" if blank else gold, "(9,9)", i, count),
                "image": _picture(folder, i),
                "ansType": "blank" if blank else "choice",
                "options": [] if blank else row["options"],
                "choiceAns": None if blank else row["answer"],
                "blankAns": "(3,4)" if blank else None,
                "type": "Fine",
                "subtype": "Find",
            }
        )
    return found


def _charxiv(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i in range(count):
        wrong = i == count - 1
        rows.append(
            {
                "figure_path": f"images/{i}.jpg",
                "image": _picture(folder, i),
                "reasoning_q": f"Which curve of figure {i} is highest?\nsay: "
                + ("x" if wrong else "P1"),
                "reasoning_a": "P1" if i != 1 else "2.50",
                "reasoning_q_source": 4 if i == 1 else 1,
                **{f"descriptive_q{k}": [1, 11, 18, 8][k - 1] for k in range(1, 5)},
                **{f"descriptive_a{k}": "?" for k in range(1, 5)},
                "subplot_loc": None if i else "left subplot",
                "subplot_row": i,
                "subplot_col": 1 if i else 0,
            }
        )
    return rows


def _dynam(folder: Path, part: str, count: int) -> Rows:
    kinds = [("float", "2.5", "2.6"), ("multiple choice", "B", "C")]
    last = part.endswith("10")  # the last variant alone is wrong, for the worst case
    return [
        {
            "id": str(i),
            "question": f"Variant {part} of {i}?\nsay: {wrong if last and i else right}",
            "image": f"path/{i}.png",
            "decoded_image": _picture(folder, i),
            "ground_truth": right,
            "answer_type": kind,
            "subject": "geometry",
            "knowledge_level": "elementary",
        }
        for i, (kind, right, wrong) in enumerate(kinds[:count])
    ]


def _embsp(folder: Path, part: str, count: int) -> Rows:
    rows = _choice(folder, part, count, options="answer_options", gold="index")
    return _with(
        rows, folder, more=lambda i: {"question_id": i, "relation": "left", "data_source": "x"}
    )


def _infovqa(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "questionId": str(i),
            "question": f"What is written, {i}?\n"
            + _says("pale blue", "nothing like it", i, count),
            "answers": ["Pale Blue", "light blue"],
            "image": _picture(folder, i),
        }
        for i in range(count)
    ]


def _mverse(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "sample_index": str(i),
            "problem_index": str(i // 2),
            "problem_version": "Text Only" if i == 0 else "Vision Only",
            "question": f"Angle {i}?\nChoices:\nA:30\nB:60\n" + _says("B", "A", i, count),
            "query_wo": "Please directly answer.",
            "answer": "B",
            "image": "" if i == 0 else _picture(folder, i),
            "question_type": "multi-choice",
            "metadata": {"subject": "Plane"},
        }
        for i in range(count)
    ]


def _mvision(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "id": str(i),
            "question": f"<image1> How many, {i}?\n" + _says("B" if i % 2 else "7", "8", i, count),
            "options": ["1", "2", "3"] if i % 2 else [],
            "answer": "B" if i % 2 else "7",
            "image": f"images/{i}.jpg",
            "decoded_image": _picture(folder, i),
            "level": 2,
            "subject": "counting",
            "solution": None,
        }
        for i in range(count)
    ]


def _mvista(folder: Path, part: str, count: int) -> Rows:
    kinds = [
        ("multi_choice", "text", ["red", "blue"], "blue", "(B) blue", None),
        ("free_form", "float", None, "1.2", "1.2345", 1.0),
        ("free_form", "integer", None, "3", "3.7", None),
        ("free_form", "list", None, "[1, 2]", "[1, 3]", None),
    ]
    return [
        {
            "pid": str(i + 1),
            "question": f"Question {i}?\nsay: {said}",
            "query": "Hint: Please answer with ...",
            "choices": choices,
            "answer": answer,
            "question_type": question_type,
            "answer_type": answer_type,
            "precision": precision,
            "unit": None,
            "image": f"images/{i}.jpg",
            "decoded_image": _picture(folder, i),
            "metadata": {},
        }
        for i, (question_type, answer_type, choices, answer, said, precision) in enumerate(kinds)
    ]


def _mmmupro(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i in range(count):
        letter = "ABCD"[i % 4]
        row: dict[str, Any] = {
            "id": f"test_{i}",
            "options": str(["red", "<image 1>" if part != "vision" else "x", "blue", "grey"]),
            "answer": letter,
            "subject": "Art",
        }
        if part == "vision":
            row["image"] = _picture(folder, i)
        else:
            row["question"] = f"See <image 2>, {part} {i}.\n" + _says(
                letter, "ABCD"[i - 1], i, count
            )
            row |= {
                f"image_{k}": _picture(folder, 10 * i + k) if k < 3 else None for k in range(1, 8)
            }
        rows.append(row)
    return rows


def _mmvet(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "question_id": f"v1_{i}",
            "question": f"What is x, {i}?\n" + _says("-1 and -5", "3", i, count),
            "answer": "-1<AND>-5",
            "image": None if i == 1 else _picture(folder, i),
            "capability": "ocr,math",
        }
        for i in range(count)
    ]


def _ocr(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i, language in enumerate(("en", "cn") * count):
        rows.append(
            {
                "id": i,
                "dataset_name": "made",
                "question": f"What does it say, {i}?\nsay: "
                + ("word" if i < 2 * count - 2 else "other"),
                "type": f"cognition VQA {language}",
                "answers": ["word"],
                "eval": "None",
                "bbox": None,
                "bbox_list": None,
                "content": None,
                "image": _picture(folder, i),
            }
        )
    return rows


def _visp(folder: Path, part: str, count: int) -> Rows:
    rows = _with(_choice(folder, part, count), folder)
    rows[1]["options"] = None
    return rows


def _vblind(folder: Path, part: str, count: int) -> Rows:
    kinds = [
        ("Touching Circles", "Are they touching? Answer with Yes/No.", "Yes", "yes"),
        (
            "Counting Grid",
            "Count the rows and columns. "
            "Answer with numbers in curly brackets, e.g., rows={5} columns={6}.",
            "5,6",
            "(5, 6)",
        ),
        ("Subway", "How many paths? Answer with a number in curly brackets e.g. {3}.", "3", "3"),
        ("Counting Grid", "Count the rows and columns.", "5,6", "6, 5"),
    ]
    return [
        {
            "task": task,
            "prompt": f"{prompt}\nsay: {said}",
            "groundtruth": gold,
            "image": _picture(folder, i),
        }
        for i, (task, prompt, gold, said) in enumerate(kinds)
    ]


def _wemath(folder: Path, part: str, count: int) -> Rows:
    """Problem 0: all right (CM). Problem 1: the whole wrong (IG). Problem 2: rote (RM)."""
    rows = []
    for problem, wrong in enumerate(("", "multi", "1")):
        for step in ("1", "2", "multi"):
            said = "C" if step == wrong else "B"
            rows.append(
                {
                    "id": f"{problem}-{step}",
                    "ID": problem,
                    "split": "testmini",
                    "key": f"2steps_{step}",
                    "knowledge concept": "area",
                    "question": f"Step {step} of {problem}?\nsay: {said}",
                    "option": "A. 1 cm;B. 2; 3 cm; C. 4 cm;D. No correct answer",
                    "answer": "B",
                    "image_path": _picture(folder, problem),
                    "question number": 1,
                }
            )
    return rows


def _text(question: str, answer: str, right: str, wrong: str) -> Callable[[Path, str, int], Rows]:
    def make(folder: Path, part: str, count: int) -> Rows:
        return [
            {question: f"Problem {i} of {part}.\n" + _says(right, wrong, i, count), answer: right}
            for i in range(count)
        ]

    return make


def _aime26(folder: Path, part: str, count: int) -> Rows:
    rows = _text("problem", "answer", "70", "71")(folder, part, count)
    return [row | {"answer": 70, "problem_idx": i} for i, row in enumerate(rows)]


def _ceval(folder: Path, part: str, count: int) -> Rows:
    return [
        {"id": i, **dict(zip("ABCD", row.pop("options"), strict=True)), **row, "explanation": ""}
        for i, row in enumerate(_choice(folder, part, count))
    ]


def _gpqa(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "Record ID": f"rec{i}",
            "Question": f"Question {i}?\nsay: " + ("right one" if i < count - 1 else "false 2"),
            "Correct Answer": "right one",
            **{f"Incorrect Answer {k}": f"false {k}" for k in range(1, 4)},
            "Subdomain": "x",
        }
        for i in range(count)
    ]


def _hle(folder: Path, part: str, count: int) -> Rows:
    import base64

    uri = "data:image/png;base64," + base64.b64encode(png(1)).decode()
    return [
        {
            "id": f"h{i}",
            "question": f"Hard {i}?\n" + _says("42", "41", i, count),
            "answer": "42",
            "image": uri if i == 1 else "",
            "answer_type": "exactMatch",
            "category": "Math",
            "raw_subject": "Algebra",
            "rationale": "",
        }
        for i in range(count)
    ]


def _imo(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "Problem ID": f"imo-{i}",
            "Problem": f"Find all n, {i}.\n" + _says(r"\frac{1}{2}", "0.25", i, count),
            "Short Answer": r"$\frac{1}{2}$",
            "Category": "Algebra",
            "Subcategory": "x",
            "Source": "y",
        }
        for i in range(count)
    ]


def _mmlu(folder: Path, part: str, count: int) -> Rows:
    rows = _choice(folder, part, count, options="choices", gold="index")
    return [row | {"subject": "law"} for row in rows]


def _mmlupro(folder: Path, part: str, count: int) -> Rows:
    return [
        row | {"question_id": i, "category": "law", "answer_index": i % 4, "src": "x"}
        for i, row in enumerate(_choice(folder, part, count))
    ]


def _mmlurd(folder: Path, part: str, count: int) -> Rows:
    rows = _choice(folder, part, count, options="choices", gold="index")
    found = []
    for i, row in enumerate(rows):
        wrong = i == 0  # its key is false, and corrected
        found.append(
            row
            | {
                "answer": 3 if wrong else row["answer"],
                "error_type": "wrong_groundtruth" if wrong else "ok",
                "correct_answer": "0" if wrong else None,
                "potential_reason": None,
            }
        )
    return found


def _multich(folder: Path, part: str, count: int) -> Rows:
    return [
        {
            "question_id": f"m{i}",
            "axis": "INFERENCE_MEMORY" if i % 2 else "SELF_COHERENCE",
            "conversation": [
                {"role": "user", "content": f"I am allergic to nuts, {i}."},
                {"role": "assistant", "content": "Noted."},
                {
                    "role": "user",
                    "content": "Suggest a dessert.\n" + _says("sorbet", "nut cake", i, count),
                },
            ],
            "target_question": "Is the dessert free of nuts?",
            "pass_criteria": "YES",
            "num_turns": 2,
        }
        for i in range(count)
    ]


def _mmvu(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i in range(count):
        video(folder / "videos" / "Art" / f"{i}.mp4", i)
        choice = i % 2 == 0
        rows.append(
            {
                "id": f"validation_{i}",
                "video": f"https://example.org/resolve/main/videos/Art/{i}.mp4",
                "youtube_url": "",
                "question_type": "multiple-choice" if choice else "open-ended",
                "question": f"What happens, {i}?\n"
                + _says("B" if choice else "a fire", "water", i, count),
                "choices": dict.fromkeys("ABCDE", "") | {"A": "rain", "B": "fire"}
                if choice
                else dict.fromkeys("ABCDE", ""),
                "answer": "B" if choice else "fire",
                "metadata": {},
            }
        )
    return rows


def _mvbench(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i in range(count):
        name = f"{part}-{i}.mp4"
        if part == "episodic_reasoning":
            name = f"clip{i}"
            (folder / "tvqa" / name).mkdir(parents=True)
            for n in range(4):
                (folder / "tvqa" / name / f"{n:05d}.jpg").write_bytes(png(n))
        else:
            video(folder / "videos" / name)
        row: dict[str, Any] = {
            "video": name,
            "question": f"What moved, {i}?\n" + _says("the cup", "the door", i, count),
            "candidates": ["the door", "the cup", "nothing"],
            "answer": "the cup",
        }
        if part == "action_localization":
            row |= {"start": 0.5, "end": 2.0}
        rows.append(row)
    return rows


def _vmme(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i in range(count):
        video(folder / "data" / f"v{i // 2}.mp4", i // 2)
        letter = "AB"[i % 2]
        rows.append(
            {
                "question_id": f"00{i}",
                "videoID": f"v{i // 2}",
                "question": f"Who, {i}?\n" + _says(letter, "C", i, count),
                "options": ["A. Ann.", "B. Bob.", "C. Cy.", "D. Di."],
                "answer": letter,
                "duration": "short",
                "domain": "x",
                "sub_category": "y",
                "task_type": "z",
            }
        )
    if folder.name == "VMMES":
        (folder / "subtitle").mkdir()
        srt = (
            "1\n00:00:00,000 --> 00:00:01,000\n<i>Hello &amp; welcome</i>\n\n"
            "2\n00:00:01,000 --> 00:00:02,000\nBob speaks.\n"
        )
        (folder / "subtitle" / "v0.srt").write_text(srt)
    return rows


def _vmmmu(folder: Path, part: str, count: int) -> Rows:
    rows = []
    for i in range(count):
        id = f"dev_Math_{part}{i}"
        video(folder / "Science" / f"{id}.mp4", i)
        open_one = i % 2 == 1
        rows.append(
            {
                "id": id,
                "question": f"Compute {i}.\n" + _says("12" if open_one else "B", "A", i, count),
                "options": [] if open_one else ["1", "2", "3"],
                "answer": "12" if open_one else "B",
                "question_type": "open" if open_one else "multiple-choice",
                "link_selected": "",
            }
        )
    return rows


_PARQUET = {"AI2D", "MMLU-Pro"}
_MAKERS: dict[str, Callable[[Path, str, int], Rows]] = {
    "AI2D": _ai2d,
    "BabyV": _babyv,
    "CharXiv": _charxiv,
    "DynaM": _dynam,
    "EmbSp": _embsp,
    "InfoVQA": _infovqa,
    "MVerse": _mverse,
    "MVision": _mvision,
    "MVista": _mvista,
    "MMMUPro": _mmmupro,
    "MM-Vet": _mmvet,
    "OCREN": _ocr,
    "OCRZH": _ocr,
    "VisP": _visp,
    "VBlind": _vblind,
    "WeMath": _wemath,
    "AIME25": _text("question", "answer", "70", "71"),
    "AIME26": _aime26,
    "CEval": _ceval,
    "GPQA-D": _gpqa,
    "HLE": _hle,
    "IMO-AB": _imo,
    "MMLU": _mmlu,
    "MMLU-Pro": _mmlupro,
    "MMLU-Rd": _mmlurd,
    "MultiCh": _multich,
    "MMVU": _mmvu,
    "MVBench": _mvbench,
    "VMME": _vmme,
    "VMMES": _vmme,
    "VMMMU": _vmmmu,
}
