"""Asking judges: prompts a user may replace, replies kept so that nothing is asked twice.

A judge is a `Teacher`; what it says is never trusted. Replies are stored raw, and read again at
every scoring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from zppo.algorithm.blocks import neutralize
from zppo.algorithm.prompts import Templates, question_text
from zppo.errors import ConfigError, TeacherError
from zppo.evaluation.benchmark import Item
from zppo.evaluation.files import append_lines, read_lines
from zppo.evaluation.scorers.base import JudgeTask
from zppo.teacher.base import ReportsFailures, Teacher, TeacherRequest, close_teacher
from zppo.types import Question

FOLDER = Path(__file__).parent / "judge_prompts"
#: Templates and what they may use beside question, answer and response.
VARIABLES: Mapping[str, frozenset[str]] = {
    "answer": frozenset(),
    "charxiv_reasoning": frozenset({"asked", "rubric"}),
    "charxiv_descriptive": frozenset({"asked", "rubric"}),
    "hle": frozenset(),
    "mmvet": frozenset(),
    "mmvu_choice": frozenset(),
    "mmvu_open": frozenset(),
    "multichallenge": frozenset({"target"}),
}
_COMMON = frozenset({"question", "answer", "response"})
_MAX_CHARS = 32_000  # of a response: the end of it, where the answer is
_WAVE = 64  # requests between two writes to the disk


class JudgePrompts:
    """The judges' instructions. `folder` holds files `NAME.j2` that take the place of ours, such
    as a benchmark's official text."""

    def __init__(self, templates: Templates, folder: str | Path | None = None) -> None:
        self._answer = templates
        environment = SandboxedEnvironment(
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.sources = {"answer": templates.sources["judge"]}
        self._compiled: dict[str, jinja2.Template] = {}
        given = _given(folder)
        for name in VARIABLES:
            if name == "answer" and name not in given:
                continue
            text = given.get(name) or (FOLDER / f"{name}.j2").read_text(encoding="utf-8")
            self.sources[name] = text
            try:
                self._compiled[name] = environment.from_string(text)
                self.render(JudgeTask(name, _trial(name), lambda reply: None))
            except jinja2.TemplateError as error:
                raise ConfigError(f"Judge prompt `{name}.j2` cannot be used: {error}") from None

    def render(self, task: JudgeTask) -> str:
        """The text a judge is asked. Text of models cannot leave its block."""
        values = dict(task.values)
        item: Item = values.pop("item")
        response = neutralize(str(values["response"]))[-_MAX_CHARS:].strip()
        if task.template not in self._compiled:
            return self._answer.judge(item.question, response)
        values |= {
            "question": question_text(item.question),
            "answer": neutralize(item.question.answer),
            "response": response,
        }
        return self._compiled[task.template].render(**values).strip()

    def digest(self, names: Sequence[str]) -> dict[str, str]:
        """A hash of each named template's text, for the results."""
        return {
            name: hashlib.sha256(self.sources[name].encode()).hexdigest()[:16] for name in names
        }


def _given(folder: str | Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    files = sorted(Path(folder).glob("*.j2")) if Path(folder).is_dir() else None
    if not files:
        raise ConfigError(f"--judge-prompts: `{folder}` is no folder with .j2 files.")
    for file in files:
        if file.stem not in VARIABLES:
            raise ConfigError(
                f"--judge-prompts: `{file}` is none of ours; there are {', '.join(VARIABLES)}."
            )
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def _trial(name: str) -> dict[str, Any]:
    item = Item(Question("trial", "q", "a"))
    return {"item": item, "response": "r", **dict.fromkeys(VARIABLES[name], "x")}


class Judge:
    """One judge of an evaluation. `name` is what results call it; `folder` keeps its replies."""

    def __init__(
        self, teacher: Teacher, name: str, prompts: JudgePrompts, max_tokens: int = 512
    ) -> None:
        self.teacher, self.name, self.prompts = teacher, name, prompts
        self.max_tokens = max_tokens

    async def replies(self, tasks: Sequence[JudgeTask], file: Path) -> list[str | None]:
        """The reply to each task, None where the call failed. Known ones are taken from `file`,
        new ones are written to it as they come; a failed call is asked again next time.

        Raises `TeacherError` when the judge answers nothing at all.
        """
        prompts = [self.prompts.render(task) for task in tasks]
        keys = [self._key(prompt) for prompt in prompts]
        known = {line["key"]: line["reply"] for line in read_lines(file)}
        new = {key: p for key, p in zip(keys, prompts, strict=True) if key not in known}
        waiting = list(new.items())
        for start in range(0, len(waiting), _WAVE):
            wave = waiting[start : start + _WAVE]
            requests = [self._request(prompt) for _, prompt in wave]
            answers = await self.teacher.complete(requests, (0,))
            lines = [
                {"key": key, "judge": self.name, "reply": reply}
                for (key, _), reply in zip(wave, answers, strict=True)
                if reply is not None
            ]
            append_lines(file, lines)
            known |= {line["key"]: line["reply"] for line in lines}
            if not lines:
                raise TeacherError(
                    f"The judge `{self.name}` gave no reply to any of {len(wave)} requests "
                    f"({', '.join(self._reasons()) or 'no reason given'}). Is its server up? "
                    "Predictions are kept; the same command goes on from here."
                )
        return [known.get(key) for key in keys]

    def _request(self, prompt: str) -> TeacherRequest:
        return TeacherRequest("judge", Question("judge", "", ""), prompt, "", self.max_tokens, 0.0)

    def _key(self, prompt: str) -> str:
        text = f"{self.name}\0{self.max_tokens}\0{prompt}"
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]

    def _reasons(self) -> list[str]:
        if not isinstance(self.teacher, ReportsFailures):
            return []
        return sorted({failure.reason for failure in self.teacher.drain_failures()})

    async def aclose(self) -> None:
        """Let go of its connections."""
        await close_teacher(self.teacher)
