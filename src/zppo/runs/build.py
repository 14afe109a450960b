"""The one place where the strings of a config become objects.

Cheap things first: a typing mistake in the data path must not wait for a model to load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zppo.algorithm.methods import METHODS
from zppo.algorithm.prompts import Templates
from zppo.algorithm.step import StepParts
from zppo.config import (
    Config,
    LocalTeacherConfig,
    OpenAITeacherConfig,
    ReferenceTeacherConfig,
    ScriptedTeacherConfig,
    SeveralTeachersConfig,
    TeacherConfig,
    can_complete,
    single_teachers,
)
from zppo.data import SkipReport, filter_by_length, load_questions, select
from zppo.data.difficulty import filter_by_accuracy, read_accuracies
from zppo.errors import ConfigError, DataError, ModelError, TeacherError
from zppo.runs.grading import build_grader, check_grading
from zppo.runs.loop import blocking
from zppo.runs.memory import require_memory
from zppo.student.base import Student
from zppo.teacher.base import ChecksQuestions, Teacher
from zppo.types import GroupKind, Prompt, Question

#: (name of the data, what was left out of it).
Reports = tuple[tuple[str, SkipReport], ...]


@dataclass(frozen=True, slots=True)
class DataParts:
    """Questions to train on and to evaluate on, and what was left out of each."""

    train: Sequence[Question]
    validation: Sequence[Question]
    reports: Reports = ()

    def notes(self) -> list[str]:
        """A line for each file with rows left out."""
        return [f"{name}: {report.summary()}" for name, report in self.reports if report.skipped]


@dataclass(frozen=True, slots=True)
class RunParts:
    """All that a run works with."""

    step: StepParts
    data: DataParts


def build_run(config: Config) -> RunParts:
    """Everything `config` names, loaded and checked against each other.

    Raises a `ZppoError` that names the key or the file at fault.
    """
    templates = Templates.load(config.algorithm.templates)
    data = build_data(config)
    check_teacher(config, data.train)
    check_judge(config, data.train, data.validation)
    student, teacher = build_student(config), build_teacher(config)
    check_distillation(config, student, teacher, data.train)
    check_media(config, teacher, data.train)
    parts = StepParts(
        config=config,
        method=METHODS[config.method],
        student=student,
        teacher=teacher,
        grader=build_grader(config, templates, build_teacher),
        templates=templates,
    )
    return RunParts(parts, within_length(data, student, templates, config))


def build_evaluation(config: Config) -> RunParts:
    """What an evaluation needs: no teacher, no training data. Raises a `ZppoError`."""
    if config.data.validation is None:
        raise ConfigError("There is nothing to evaluate on; set data.validation=FILE.")
    templates = Templates.load(config.algorithm.templates)
    data = DataParts([], *_validation(config))
    check_judge(config, data.validation)
    student = build_student(config)
    grader = build_grader(config, templates, build_teacher)
    parts = StepParts(config, METHODS[config.method], student, None, grader, templates)
    return RunParts(parts, within_length(data, student, templates, config))


def build_measurement(config: Config, questions: Sequence[Question]) -> StepParts:
    """What sampling the student on `questions` needs: no teacher. Raises a `ZppoError`."""
    templates = Templates.load(config.algorithm.templates)
    check_judge(config, questions)
    student = build_student(config)
    grader = build_grader(config, templates, build_teacher)
    return StepParts(config, METHODS[config.method], student, None, grader, templates)


def build_data(config: Config) -> DataParts:
    """Both data sets, the training data without what its student finds easy. Raises
    `DataError`."""
    train = load_questions(config.data.train, config.data)
    validation, reports = _validation(config)
    reports = ((config.data.train, train.report), *reports)
    questions = train.questions
    if config.data.difficulty is not None:
        accuracies = read_accuracies(Path(config.data.difficulty))
        questions, left = filter_by_accuracy(questions, accuracies, config.data.max_accuracy)
        reports = (*reports, (f"{config.data.train}, difficulty", left))
        if not questions:
            raise DataError(
                f"{config.data.train}: no question is left by data.difficulty="
                f"{config.data.difficulty}.\n{left.table()}"
            )
    return DataParts(questions, validation, reports)


def _validation(config: Config) -> tuple[Sequence[Question], Reports]:
    if config.data.validation is None:
        return [], ()
    # data.limit shortens training; evaluation.limit is the one for evaluation.
    unlimited = config.data.model_copy(update={} if config.data.streaming else {"limit": None})
    found = load_questions(config.data.validation, unlimited)
    chosen = spread(found.questions, config.evaluation.limit)
    return chosen, ((config.data.validation, found.report),)


def build_student(config: Config) -> Student:
    """The policy. Raises `ModelError`, also where its weights cannot fit into memory."""
    if config.student.engine == "verl":
        return _build_cluster(config)
    import torch

    from zppo.student.local import LocalStudent

    require_memory(config)
    torch.manual_seed(config.seed)  # fresh LoRA adapters draw from torch's own generator
    try:
        return LocalStudent.from_config(config)
    except FileNotFoundError as error:  # the lab's weights were not built
        raise ModelError(f"Cannot load model `{config.student.model}`: {error}") from None


def _build_cluster(config: Config) -> Student:
    try:
        import verl  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f"student.engine=verl needs verl in this environment ({error}); docs/cluster.md says "
            "how it is made."
        ) from None
    from zppo.student.verl.student import VerlStudent

    return VerlStudent.from_config(config)


def build_teacher(config: Config) -> Teacher | None:
    """The teacher, None where the config has none. Raises `ModelError` and `TeacherError`."""
    return None if config.teacher is None else _build_one(config.teacher, config)


def _build_one(options: TeacherConfig, config: Config) -> Teacher:
    config = config.model_copy(update={"teacher": options})
    match options:
        case ScriptedTeacherConfig():
            from zppo.teacher.scripted import ScriptedTeacher

            return ScriptedTeacher(options.error_rate)
        case LocalTeacherConfig():
            from zppo.teacher.local import LocalTeacher

            return LocalTeacher.from_config(config)
        case OpenAITeacherConfig():
            from zppo.teacher.openai import OpenAITeacher

            return OpenAITeacher.from_config(config)
        case ReferenceTeacherConfig(compressor=compressor):
            from zppo.teacher.reference import ReferenceTeacher

            return ReferenceTeacher(_build_one(compressor, config) if compressor else None)
        case SeveralTeachersConfig():
            from zppo.teacher.several import SeveralTeachers

            teachers = [_build_one(single, config) for single in options.teachers]
            able = [t for t, o in zip(teachers, options.teachers, strict=True) if can_complete(o)]
            return SeveralTeachers(teachers, options.mode == "in_order", able)


def check_teacher(config: Config, questions: Sequence[Question]) -> None:
    """Raise `TeacherError` when a teacher cannot answer: the scripted one what it has no trace
    for, worked solutions where no row has one, a server that refuses or is not there."""
    singles = single_teachers(config.teacher)
    if any(isinstance(t, ScriptedTeacherConfig) for t in singles):
        unknown = next((q for q in questions if q.reference is None), None)
        if unknown is not None:
            raise TeacherError(
                f"teacher.kind=scripted only knows the lab's puzzles, and question `{unknown.id}` "
                f"of {config.data.train} has no worked solution. Use teacher.kind=local with "
                "teacher.model=..., or data.train=lab:train."
            )
    by_reference = any(isinstance(t, ReferenceTeacherConfig) for t in singles)
    if by_reference and not any(q.reference for q in questions):
        raise TeacherError(
            f"teacher.kind=reference answers with the data's worked solutions, and no row of "
            f"{config.data.train} has one. They stand in the column "
            f"`{config.data.columns.reference}`; data.columns.reference=NAME names another."
        )
    for options in singles:
        if isinstance(options, OpenAITeacherConfig):
            check_servers(options, config)


def check_distillation(
    config: Config, student: Student, teacher: Teacher | None, questions: Sequence[Question]
) -> None:
    """Where the method distils, raise `ModelError` unless the teacher can read the student's
    tokens, and its pictures if there are any; `ConfigError` for an engine that cannot distil."""
    if METHODS[config.method].distill is None:
        return
    from zppo.student.local import LocalStudent
    from zppo.student.vocabulary import require_same_pictures, require_same_vocabulary
    from zppo.teacher.local import LocalTeacher

    if not isinstance(student, LocalStudent) or not isinstance(teacher, LocalTeacher):
        raise ConfigError(
            f"method `{config.method}` needs student and teacher in one process; set "
            "student.engine=local and teacher.kind=local."
        )
    names = (config.student.model, teacher.options.model)
    require_same_vocabulary(student.loaded, teacher.loaded, names)
    require_same_pictures(student.encoder, teacher.encoder, names, questions)


def check_media(config: Config, teacher: Teacher | None, questions: Sequence[Question]) -> None:
    """Raise `ModelError` when a teacher of this process is asked a question it cannot see."""
    asked = METHODS[config.method].needs_teacher_samples
    if asked and isinstance(teacher, ChecksQuestions):
        teacher.check_questions(questions)


def check_judge(config: Config, *questions: Sequence[Question]) -> None:
    """Raise `ConfigError` when free-form questions have no judge, `TeacherError` when its server
    does not answer."""
    check_grading(config, *questions)
    if isinstance(config.judge, OpenAITeacherConfig):
        check_servers(config.judge, config)


def check_servers(options: OpenAITeacherConfig, config: Config) -> None:
    """Ask every server of a teacher or judge for a word. Raises `TeacherError`."""
    from zppo.teacher.openai import OpenAITeacher

    blocking(OpenAITeacher(options, config.data).check())


def within_length(
    data: DataParts, student: Student, templates: Templates, config: Config
) -> DataParts:
    """`data` without the questions whose plain prompt is longer than `data.max_prompt_tokens`.

    Raises `DataError` when none is left, `ModelError` when prompt and response cannot both fit.
    """
    limit = config.data.max_prompt_tokens
    response = config.rollout.max_response_tokens
    if response >= student.context_limit:
        raise ModelError(
            f"rollout.max_response_tokens={response} fills the context of `{config.student.model}` "
            f"({student.context_limit} tokens); lower it."
        )
    # A prompt that leaves no room for a response could never be answered.
    limit = min(limit, student.context_limit - response)

    length = plain_length(student, templates)
    train, long_train = filter_by_length(data.train, length, limit)
    validation, long_validation = filter_by_length(data.validation, length, limit)
    if data.train and not train:
        raise DataError(
            f"{config.data.train}: no question is left, all prompts are longer than {limit} "
            f"tokens (data.max_prompt_tokens, and what the model's context of "
            f"{student.context_limit} leaves beside rollout.max_response_tokens={response})."
        )
    reports = (
        *data.reports,
        (f"{config.data.train}, length", long_train),
        (f"{config.data.validation}, length", long_validation),
    )
    return DataParts(train, validation, reports)


def plain_length(student: Student, templates: Templates) -> Callable[[Question], int]:
    """Tokens of a question's plain prompt, closer and visual tokens included."""
    return lambda q: student.prompt_tokens(Prompt(q, GroupKind.PLAIN, templates.plain(q)))


def family(question: Question) -> str:
    """The family a question is counted in: its source up to the first slash."""
    return question.source.partition("/")[0] or "other"


def spread(questions: Sequence[Question], limit: int | None) -> Sequence[Question]:
    """`limit` questions, the families in turn, so that a small sample holds all of them. In the
    order of the data."""
    if limit is None or limit >= len(questions):
        return questions
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for index, question in enumerate(questions):
        rank = seen.get(family(question), 0)
        seen[family(question)] = rank + 1
        ranked.append((rank, index))
    chosen = sorted(index for _, index in sorted(ranked)[:limit])
    return select(questions, chosen)
