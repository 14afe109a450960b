"""From a raw row to the rows that the common reading (`rows.py`) understands.

Most benchmarks need nothing (`plain`). Each function here undoes one benchmark's own layout. A row
is a mapping of columns; `PART` holds the configuration or split it came from.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from zppo.data.skips import RowProblem
from zppo.evaluation.charxiv import descriptive_question, reasoning_question

Row = Mapping[str, Any]
Reader = Callable[[Row], Iterable[dict[str, Any]]]

#: Columns that readers and the loader add.
PART, TURNS, ROOT = "_part", "_turns", "_root"


def plain(row: Row) -> Iterable[dict[str, Any]]:
    """Nothing to undo."""
    yield dict(row)


def babyvision(row: Row) -> Iterable[dict[str, Any]]:
    """The gold answer lies in one of two columns, by the type of question."""
    choice = row.get("ansType") == "choice"
    if not choice and row.get("ansType") != "blank":
        raise RowProblem("ansType", "unknown type", f"{row.get('ansType')!r}")
    if choice:
        yield dict(row) | {"_gold": letter(row.get("choiceAns"), "choiceAns")}
    else:
        yield dict(row) | {"_gold": row.get("blankAns"), "options": None}


def charxiv(row: Row) -> Iterable[dict[str, Any]]:
    """One reasoning question and four descriptive ones a figure."""
    figure = str(row["figure_path"])
    source = whole(row["reasoning_q_source"], "reasoning_q_source")
    gold = str(row["reasoning_a"])
    yield dict(row) | {
        "_id": f"{figure}/reasoning",
        "_question": reasoning_question(str(row["reasoning_q"]), source, gold),
        "_gold": gold,
        "_kind": "reasoning",
        "_rubric": source,
        "_asked": row["reasoning_q"],
    }
    for number in range(1, 5):
        template = whole(row[f"descriptive_q{number}"], f"descriptive_q{number}")
        question = descriptive_question(template, _subplot(row))
        yield dict(row) | {
            "_id": f"{figure}/descriptive-{number}",
            "_question": question,
            "_gold": str(row[f"descriptive_a{number}"]),
            "_kind": "descriptive",
            "_rubric": template,
            "_asked": question.partition("\n")[0],
        }


def _subplot(row: Row) -> str:
    """Which subplot of the figure is meant: words, or row and column; empty for a single plot."""
    words, line, column = row.get("subplot_loc"), row.get("subplot_row"), row.get("subplot_col")
    if words:
        return f"the {words}"
    if not line and not column:  # (0, 0): the figure has one plot
        return ""
    line, column = whole(line, "subplot_row"), whole(column, "subplot_col")
    return f"the subplot at row {line} and column {column}"


def mmmu_pro(row: Row) -> Iterable[dict[str, Any]]:
    """Options are a Python list written as text; images are those that the text refers to."""
    options = literal_list(row.get("options"), "options")
    if row[PART] == "vision":
        text = "The image holds a question and its options. Answer the question."
        yield dict(row) | {"_question": text, "options": options, "_images": [row.get("image")]}
        return
    text = str(row.get("question"))
    wanted = sorted({int(n) for n in re.findall(r"<image (\d)>", "\n".join([text, *options]))})
    # Media come before the text, in this order; the text then names them by their numbers.
    order = {number: place for place, number in enumerate(wanted, start=1)}
    images = [row.get(f"image_{number}") for number in wanted]
    if None in images:
        missing = f"image_{wanted[images.index(None)]}"
        raise RowProblem(missing, "no image", "the question refers to an image that is null")

    def name(text: str) -> str:
        return re.sub(r"<image (\d)>", lambda m: f"(image {order[int(m[1])]})", text)

    yield dict(row) | {
        "_question": name(text),
        "options": [name(option) for option in options],
        "_images": images,
    }


def mmlu_redux(row: Row) -> Iterable[dict[str, Any]]:
    """Where the annotators found the key to be wrong, theirs counts."""
    answer, corrected = row.get("answer"), row.get("correct_answer")
    if row.get("error_type") == "wrong_groundtruth" and corrected not in (None, ""):
        yield dict(row) | {"_gold": letter(corrected, "correct_answer")}
    else:
        yield dict(row) | {"_gold": letter(answer, "answer")}


def multichallenge(row: Row) -> Iterable[dict[str, Any]]:
    """The last user turn is the question; what goes before is the conversation."""
    name = "conversation" if "conversation" in row else "CONVERSATION"
    turns = _turns(row[name], name)
    if not turns or turns[-1][0] != "user":
        raise RowProblem(name, "no question", "the conversation does not end with the user")
    criterion = str(row.get("pass_criteria", row.get("PASS_CRITERIA"))).strip().upper()
    if criterion not in ("YES", "NO"):  # no reply could ever pass
        raise RowProblem("pass_criteria", "no criterion", f"{criterion[:40]!r} is not YES or NO")
    more = {"_question": turns[-1][1], "_gold": criterion, TURNS: tuple(turns[:-1])}
    yield dict(row) | more


def _turns(value: Any, column: str) -> list[tuple[str, str]]:
    """A list of {role, content}, or a mapping of two lists as older `datasets` writes it."""
    if isinstance(value, Mapping):
        value = [
            {"role": r, "content": c}
            for r, c in zip(value.get("role", []), value.get("content", []), strict=False)
        ]
    try:
        return [(str(turn["role"]), str(turn["content"])) for turn in value]
    except (TypeError, KeyError) as error:
        raise RowProblem(column, "wrong type", f"not a list of role and content: {error}") from None


def mmvu(row: Row) -> Iterable[dict[str, Any]]:
    """The video is a URL into the data set's own repository."""
    video = str(row.get("video_path") or row.get("video") or "")
    inside = video.rpartition("videos/")[2]
    choices = row.get("choices") if row.get("question_type") == "multiple-choice" else None
    yield dict(row) | {"_video": f"videos/{inside}" if inside else None, "choices": choices}


#: The folder of each task's videos, as the archives unpack (MVBench's own list).
_MVBENCH_SOURCES = {
    **dict.fromkeys(
        ("action_sequence", "action_prediction", "object_interaction"), "star/Charades_v1_480"
    ),
    **dict.fromkeys(
        ("object_shuffle", "action_count", "state_change", "character_order"), "perception/videos"
    ),
    **dict.fromkeys(
        (
            "object_existence",
            "moving_direction",
            "moving_count",
            "moving_attribute",
            "counterfactual_inference",
        ),
        "clevrer/video_validation",
    ),
    "action_antonym": "ssv2_video",
    "action_localization": "sta/sta_video",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "scene_transition": "scene_qa/video",
    "unexpected_action": "FunQA_test/test",
}


def mvbench(row: Row) -> Iterable[dict[str, Any]]:
    """Some tasks ask about a part of the video, which is said in the question. Names of videos are
    unique only inside their source, so the source's folder goes with them."""
    start, end = row.get("start"), row.get("end")
    text = str(row.get("question"))
    if isinstance(start, int | float) and isinstance(end, int | float):
        text = f"Consider the video from {start:g} to {end:g} seconds.\n{text}"
    source = _MVBENCH_SOURCES.get(str(row.get(PART)), "")
    video = str(PurePosixPath(source) / str(row["video"])) if row.get("video") else None
    yield dict(row) | {"_question": text, "_video": video}


def worked(row: Row) -> Iterable[dict[str, Any]]:
    """The gold answer stands on the last line of a worked solution, `#### 18` (GSM8K)."""
    answer = str(row.get("answer")).rpartition("####")[2].strip()
    plain = re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", answer)
    yield dict(row) | {"_gold": answer.replace(",", "") if plain else answer}


def videomme(row: Row) -> Iterable[dict[str, Any]]:
    """The video's file is named after its id."""
    yield dict(row) | {"_video": f"data/{row.get('videoID')}.mp4"}


def videomme_subtitles(row: Row) -> Iterable[dict[str, Any]]:
    """As `videomme`, with the subtitles before the question."""
    name = f"{row.get('videoID')}.srt"
    found = sorted(Path(str(row[ROOT])).rglob(name))
    spoken = subtitles(found[0].read_text("utf-8", errors="replace")) if found else ""
    head = f"Subtitles of the video:\n{spoken}" if spoken else "The video has no subtitles."
    yield dict(row) | {
        "_video": f"data/{row.get('videoID')}.mp4",
        "_question": f"{head}\n\n{row.get('question')}",
        "_subtitles": bool(found),
    }


def videommmu(row: Row) -> Iterable[dict[str, Any]]:
    """The video's file is named after the question's id; open questions have no options."""
    options = row.get("options") or None
    yield dict(row) | {"_video": f"{row.get('id')}.mp4", "options": options}


def ocrbench_en(row: Row) -> Iterable[dict[str, Any]]:
    """The English rows."""
    return _ocrbench(row, " en")


def ocrbench_zh(row: Row) -> Iterable[dict[str, Any]]:
    """The Chinese rows."""
    return _ocrbench(row, " cn")


def _ocrbench(row: Row, suffix: str) -> Iterable[dict[str, Any]]:
    """Rows of one language, by the end of their type. The metric reads `answers` as they are."""
    kind = str(row.get("type"))
    if not kind.endswith((" en", " cn")):
        raise RowProblem("type", "unknown type", f"{kind!r} ends in neither ` en` nor ` cn`")
    if kind.endswith(suffix):
        yield dict(row) | {"_gold": json.dumps(row.get("answers"), ensure_ascii=False)}


def subtitles(srt: str) -> str:
    """The spoken lines of an .srt file, without numbers, times and tags."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", srt.replace("\r\n", "\n").removeprefix("\ufeff")):
        rows = block.strip().split("\n")
        times = next((i for i, row in enumerate(rows) if "-->" in row), None)
        if times is not None:
            spoken = " ".join(row.strip() for row in rows[times + 1 :])
            lines.append(html.unescape(re.sub(r"<[^>]*>", "", spoken)).strip())
    return "\n".join(line for line in lines if line)


def letter(value: Any, column: str) -> str:
    """The letter of an option given by its place (0 is A) or by its letter."""
    text = str(value).strip()
    if re.fullmatch(r"\d{1,2}", text):
        return chr(ord("A") + int(text))
    if re.fullmatch(r"\(?[A-Za-z]\)?\.?", text):
        return text.strip("().").upper()
    raise RowProblem(column, "no option", f"{text[:40]!r} is neither a letter nor a place")


def literal_list(value: Any, column: str) -> list[str]:
    """A list, or one written as text (`"['a', 'b']"`)."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise RowProblem(column, "wrong type", f"{value[:40]!r} is no list") from None
    if not isinstance(value, list | tuple):
        raise RowProblem(column, "wrong type", f"expected a list, got {type(value).__name__}")
    return [str(option) for option in value]


def whole(value: Any, column: str) -> int:
    """A whole number, also where it comes as a float or as text."""
    try:
        number = float(value)
        if number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RowProblem(column, "wrong type", f"{value!r} is no whole number") from None
    return int(number)


READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        plain,
        babyvision,
        charxiv,
        mmlu_redux,
        mmmu_pro,
        mmvu,
        multichallenge,
        mvbench,
        ocrbench_en,
        ocrbench_zh,
        videomme,
        videomme_subtitles,
        videommmu,
        worked,
    )
}
