"""Every prompt of the method, rendered from templates a user may replace (method section 6).

The paper describes the prompts by what they contain; the wording here is our own. Two properties
hold whatever a template says, because code and not the template sees to them: the answer-format
closer ends every student prompt, and text that a model wrote cannot leave the block it is put in.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from string import ascii_uppercase
from typing import Any, cast

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from zppo.algorithm.blocks import (
    break_special_tokens,
    neutralize,
    parse_hint,
    parse_summary,
    parse_verdict,
)
from zppo.errors import ConfigError
from zppo.types import Question

__all__ = [
    "Templates",
    "neutralize",
    "parse_hint",
    "parse_summary",
    "parse_verdict",
    "question_text",
]

FOLDER = Path(__file__).parent / "templates"

#: Variables of each template with a value to try it on. All are text or lists of text.
_VARIABLES: Mapping[str, Mapping[str, Any]] = {
    "plain": {"question": "q"},
    "bcq": {"question": "q", "candidates": ["c", "d"]},
    "ncq": {"question": "q", "wrong_answers": ["1", "2"], "candidates": ["c", "d"]},
    "hint": {"question": "q", "hint": "h"},
    "closer": {},
    "compress": {"question": "q", "response": "r", "max_lines": 5},
    "write_hint": {"question": "q", "response": "r"},
    "judge": {"question": "q", "answer": "a", "response": "r"},
}
#: Variables a template may leave out; one that drops any other would ask about nothing.
_OPTIONAL = {"compress": {"question", "max_lines"}}


@dataclass(frozen=True)
class Templates:
    """The prompts of a run. Every method returns the text of one user turn; media come first and
    are not part of it.

    Build it with `default` or `load`. All templates are compiled and tried then, so a mistake in
    one shows before a run starts, and a file that changes during a run changes nothing.
    """

    compiled: Mapping[str, jinja2.Template]
    #: The text of every template in use, by name, for the records of a run.
    sources: Mapping[str, str]
    #: The text that ends every student prompt. It has no variables, so it is rendered once.
    closer: str

    @classmethod
    def default(cls) -> Templates:
        """Our own templates."""
        return cls.load(None)

    @classmethod
    def load(cls, folder: str | Path | None) -> Templates:
        """Our templates, with those that `folder` holds in their place.

        **A file that `folder` lacks falls back to ours**, so a folder holds only what it changes:
        any of plain, bcq, ncq, hint, closer, compress, write_hint, judge, each `<name>.j2`.

        Raises `ConfigError` when the folder does not exist, holds a `.j2` file of another name
        (the nearest name is given), or a template cannot be read, parsed or rendered, uses an
        unknown variable or leaves a needed one out (file and line are given).
        """
        folders = [FOLDER]
        if folder is not None:
            folder = Path(folder)
            _check_names(folder)
            folders.insert(0, folder)
        environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(folders),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        built = {name: _compile(environment, name) for name in _VARIABLES}
        return cls(
            compiled={name: template for name, (template, _) in built.items()},
            sources={name: source for name, (_, source) in built.items()},
            closer=built["closer"][0].render().strip(),
        )

    def plain(self, question: Question) -> str:
        """The question as it is."""
        return self._for_student("plain", question)

    def teacher_prompt(self, question: Question) -> str:
        """What the teacher is asked to solve: the student's plain prompt."""
        return self.plain(question)

    def bcq(self, question: Question, candidates: Sequence[str]) -> str:
        """Binary Candidate-included Question: one right and one wrong trace, in the order given.

        Nothing tells them apart but their text. Raises `ValueError` unless there are exactly two.
        """
        if isinstance(candidates, str) or len(candidates) != 2:
            raise ValueError(f"candidates must be two texts, got {candidates!r}")
        return self._for_student("bcq", question, candidates=_safe(candidates))

    def ncq(
        self, question: Question, wrong_answers: Sequence[str], candidates: Sequence[str]
    ) -> str:
        """Negative Candidate-included Question: wrong traces and the answers they ended in.

        `wrong_answers` are contents of boxes, each shown once as `\\boxed{...}`; there may be
        none. Raises `ValueError` when there is no candidate.
        """
        if isinstance(candidates, str) or not candidates:
            raise ValueError(f"candidates must be one or more texts, got {candidates!r}")
        if isinstance(wrong_answers, str):
            raise ValueError(f"wrong_answers must be a sequence of texts, got {wrong_answers!r}")
        answers = list(dict.fromkeys(_safe(wrong_answers)))
        return self._for_student(
            "ncq", question, wrong_answers=answers, candidates=_safe(candidates)
        )

    def hint(self, question: Question, hint: str) -> str:
        """The question with a teacher's answer-free hint (the Hint baseline)."""
        return self._for_student("hint", question, hint=_inert(hint))

    def compress(self, question: Question, response: str, max_lines: int = 5) -> str:
        """Asks the teacher to shorten a response; right and wrong ones get the same prompt."""
        return self._render("compress", question, response=_inert(response), max_lines=max_lines)

    def write_hint(self, question: Question, response: str) -> str:
        """Asks the teacher for an answer-free hint from one of its correct responses."""
        return self._render("write_hint", question, response=_inert(response))

    def judge(self, question: Question, response: str) -> str:
        """Asks a judge whether `response` (a trajectory or an extracted answer) is correct."""
        gold = _inert(question.answer)
        return self._render("judge", question, answer=gold, response=_inert(response))

    def _for_student(self, name: str, question: Question, **values: object) -> str:
        return f"{self._render(name, question, **values)}\n\n{self.closer}"

    def _render(self, name: str, question: Question, **values: object) -> str:
        return self.compiled[name].render(question=question_text(question), **values).strip()


def question_text(question: Question) -> str:
    """The text of a question with its options, if any, listed as `A. ...` below it.

    Its words are the data's own: only special tokens are broken up, its tags stay.
    """
    lines = [question.text.strip()]
    options = question.options or ()
    lines += [f"{letter}. {option}" for letter, option in zip(_letters(), options, strict=False)]
    return break_special_tokens("\n".join(lines))


def _letters() -> Iterator[str]:
    """A, B, ..., Z, AA, AB, ..."""
    for length in count(1):
        yield from map("".join, product(ascii_uppercase, repeat=length))


def _inert(text: str) -> str:
    return neutralize(text).strip()


def _safe(texts: Sequence[str]) -> list[str]:
    return [_inert(text) for text in texts]


def _check_names(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"Templates folder `{folder}` does not exist.")
    for file in sorted(folder.glob("*.j2")):
        if file.stem not in _VARIABLES:
            near = difflib.get_close_matches(file.stem, _VARIABLES, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"Template `{file}` is none of ours; did you mean `{near}.j2`? "
                f"Templates: {', '.join(f'{name}.j2' for name in _VARIABLES)}."
            )


def _compile(environment: SandboxedEnvironment, name: str) -> tuple[jinja2.Template, str]:
    """The template `name` and its source: parsed, variables checked, rendered once for trial."""
    loader = cast(jinja2.FileSystemLoader, environment.loader)
    file = f"{name}.j2"
    try:
        source, path, _ = loader.get_source(environment, file)
        file = path
        tree = environment.parse(source, name, path)
        _check_variables(tree, name, path)
        template = environment.get_template(f"{name}.j2")
        trial = template.render(**_VARIABLES[name])
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"Template `{file}`, line {error.lineno}: {error.message}") from None
    except ConfigError:
        raise
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        where = f", line {lines[-1]}" if lines else ""
        raise ConfigError(f"Template `{file}`{where}: {error}") from None
    if name == "closer" and "\\boxed" not in trial:
        raise ConfigError(
            f"Template `{file}` must ask for \\boxed{{}}: rewards read the box alone."
        )
    return template, source


def _check_variables(tree: nodes.Template, name: str, path: str) -> None:
    known = set(_VARIABLES[name])
    used = meta.find_undeclared_variables(tree)
    for node in tree.find_all(nodes.Name):
        if node.name in used - known:
            near = difflib.get_close_matches(node.name, known, n=1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            raise ConfigError(
                f"Template `{path}`, line {node.lineno}: unknown variable `{node.name}`; {hint}"
                f"it may use {', '.join(sorted(known)) or 'none'}"
            )
    if any(tree.find_all((nodes.Include, nodes.Extends))):
        return  # the rest may stand in the other file
    if missing := sorted(known - used - _OPTIONAL.get(name, set())):
        raise ConfigError(f"Template `{path}` never uses {', '.join(f'`{m}`' for m in missing)}.")
