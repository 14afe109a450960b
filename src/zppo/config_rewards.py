"""The rewards part of the configuration tree: the rule, its processes, and the judge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zppo.config_teacher import LocalTeacherConfig, OpenAITeacherConfig, Section

JudgeConfig = Annotated[LocalTeacherConfig | OpenAITeacherConfig, Field(discriminator="kind")]


class RewardsConfig(Section):
    """How responses are graded (method sections 6 and 7), in training and in evaluation."""

    mode: Literal["robust", "paper"] = Field(
        default="robust", description="paper: the strict rule of the paper"
    )
    free: Literal["judge", "rule"] = Field(
        default="judge", description="who grades free-form questions; rule: without a judge"
    )
    isolate: bool = Field(
        default=True, description="read answers in processes that can be killed (not on Windows)"
    )
    workers: int = Field(default=2, ge=1, le=64)
    deadline_s: float = Field(default=5.0, gt=0.0)
    memory_mb: int = Field(default=1_024, ge=256)
    judge_short: bool = Field(
        default=False, description="also ask the judge about short answers the rule refuses"
    )
    judge_max_tokens: int = Field(default=512, ge=16)
    judge_schema: bool = Field(
        default=True, description="ask the judge's server for replies by a JSON schema"
    )
    judge_check_share: float = Field(
        default=0.02, ge=0.0, le=1.0, description="of the rule's verdicts, judged for comparison"
    )
    max_judge_failure_share: float = Field(default=0.5, ge=0.0, le=1.0)
