"""The grader that a config describes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from zppo.algorithm.prompts import Templates
from zppo.config import Config
from zppo.errors import ConfigError
from zppo.rewards import Grader, RuleGrader, WorkerPool
from zppo.rewards.judge import JudgeGrader, JudgeOptions
from zppo.teacher.base import Teacher
from zppo.types import Question


def build_grader(
    config: Config, templates: Templates, build_judge: Callable[[Config], Teacher | None]
) -> Grader:
    """The rule, and the judge around it where there is one. `build_judge` is `build_teacher`: a
    judge is built like a teacher. Starts no process; raises `ModelError`."""
    options = config.rewards
    pool = None
    if options.isolate and os.name == "posix":
        pool = WorkerPool(
            options.workers, deadline_s=options.deadline_s, memory_mb=options.memory_mb
        )
    rule = RuleGrader(options.mode, pool)
    judge = build_judge(config.model_copy(update={"teacher": config.judge}))
    if judge is None:
        return rule
    judge_options = JudgeOptions(
        max_tokens=options.judge_max_tokens,
        short=options.judge_short,
        check_share=options.judge_check_share,
        max_failure_share=options.max_judge_failure_share,
        schema=options.judge_schema,
    )
    return JudgeGrader(rule, judge, templates, judge_options, config.seed)


def check_grading(config: Config, *questions: Sequence[Question]) -> None:
    """Raise `ConfigError` when free-form questions have nobody who grades them."""
    if config.judge is not None or config.rewards.free == "rule":
        return
    free = (question for some in questions for question in some if question.kind == "free")
    if first := next(free, None):
        raise ConfigError(
            f"{1 + sum(1 for _ in free)} of {sum(map(len, questions))} questions are free-form, "
            f"for instance `{first.id}`, and there is no judge to grade them. Set judge.kind=local "
            "with judge.model=..., or judge.kind=openai with judge.endpoints=...; or set "
            "rewards.free=rule to grade them by the rule, which wants the gold answer's own words."
        )
