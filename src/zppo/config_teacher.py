"""The teacher part of the configuration tree: who may answer the hard questions, and how.

An API key is never part of it: an endpoint names the environment variable that holds its key.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """What every section of the tree shares: frozen, and no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ScriptedTeacherConfig(Section):
    """The lab's program teacher: solves the puzzles, wrong at a set rate. Needs no weights."""

    kind: Literal["scripted"] = "scripted"
    error_rate: float = Field(default=0.1, ge=0.0, le=1.0)


class LocalTeacherConfig(Section):
    """A frozen transformers model in this process."""

    kind: Literal["local"] = "local"
    model: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    temperature: float = Field(default=1.0, gt=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_response_tokens: int = Field(default=12_288, ge=1)
    sampler_batch_tokens: int = Field(default=131_072, ge=1)
    template_arguments: dict[str, Any] = Field(
        default={}, description="variables of the chat template, such as enable_thinking"
    )
    task_template_arguments: dict[str, Any] = Field(
        default={}, description="further ones of text tasks only: compression, hints, judging"
    )

    @model_validator(mode="after")
    def _sets_no_own_argument(self) -> LocalTeacherConfig:
        own = {"conversation", "tokenize", "add_generation_prompt", "return_tensors"}
        for name in ("template_arguments", "task_template_arguments"):
            if taken := sorted(own & set(getattr(self, name))):
                raise ValueError(f"`{name}` cannot set {', '.join(taken)}")
        return self


class EndpointConfig(Section):
    """One OpenAI-compatible server and the model it is asked for."""

    url: str = Field(description="the base URL, with /v1")
    model: str = Field(min_length=1)
    api_key_env: str | None = Field(
        default=None, description="the environment variable that holds this server's key"
    )
    concurrency: int = Field(default=32, ge=1, le=1_000, description="requests in flight")

    @model_validator(mode="after")
    def _holds_no_secret(self) -> EndpointConfig:
        # Checked for the whole endpoint: the message for a single field would repeat its value.
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("`url` must look like http://host:port/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "`url` must hold no user, password or query, since configs are written to disk; "
                "put the key into an environment variable and name it in `api_key_env`"
            )
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
            raise ValueError(
                "`api_key_env` is the name of an environment variable such as TEACHER_API_KEY, "
                "not the key itself"
            )
        return self


class OpenAITeacherConfig(Section):
    """A model behind one or more OpenAI-compatible endpoints."""

    kind: Literal["openai"] = "openai"
    endpoints: list[EndpointConfig] = Field(min_length=1)
    temperature: float | None = Field(
        default=1.0, ge=0.0, description="None: not sent, for models that refuse it"
    )
    top_p: float | None = Field(default=1.0, gt=0.0, le=1.0)
    max_response_tokens: int = Field(default=12_288, ge=1)
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    samples: Literal["detect", "single"] = Field(
        default="detect",
        description="detect: ask for all samples at once and find out whether the server does it",
    )
    send_seed: bool = True
    timeout_s: float = Field(default=600.0, gt=0.0, description="deadline of one request")
    max_attempts: int = Field(default=5, ge=1)
    max_outage_s: float = Field(
        default=300.0, ge=0.0, description="how long a request waits while no endpoint answers"
    )
    max_frames: int = Field(default=32, ge=2, description="frames sent of a video")
    max_pixels: int | None = Field(default=None, ge=1, description="None: data.max_pixels")
    extra_body: dict[str, Any] = Field(
        default={}, description="further fields of every request, such as chat_template_kwargs"
    )
    task_extra_body: dict[str, Any] = Field(
        default={}, description="further fields of text tasks only: compression, hints, judging"
    )

    @model_validator(mode="after")
    def _sends_no_field_twice(self) -> OpenAITeacherConfig:
        own = {"model", "messages", "n", "temperature", "top_p", "seed", "stream"}
        own |= {"max_tokens", "max_completion_tokens"}
        for name in ("extra_body", "task_extra_body"):
            if taken := sorted(own & set(getattr(self, name))):
                raise ValueError(f"`{name}` cannot set {', '.join(taken)}: other keys do")
        return self


CompressorConfig = Annotated[
    ScriptedTeacherConfig | LocalTeacherConfig | OpenAITeacherConfig, Field(discriminator="kind")
]


class ReferenceTeacherConfig(Section):
    """The data's own worked solutions as the one correct trace; no model answers questions."""

    kind: Literal["reference"] = "reference"
    compressor: CompressorConfig | None = Field(
        default=None, description="the teacher that compresses traces and writes hints"
    )


SingleTeacherConfig = Annotated[
    ScriptedTeacherConfig | LocalTeacherConfig | OpenAITeacherConfig | ReferenceTeacherConfig,
    Field(discriminator="kind"),
]


class SeveralTeachersConfig(Section):
    """More than one teacher, which widens the set of questions that get a BCQ."""

    kind: Literal["several"] = "several"
    teachers: list[SingleTeacherConfig] = Field(min_length=2)
    mode: Literal["in_order", "together"] = Field(
        default="in_order",
        description="in_order: each answers what those before it left unsolved; together: all do",
    )


TeacherConfig = Annotated[
    ScriptedTeacherConfig
    | LocalTeacherConfig
    | OpenAITeacherConfig
    | ReferenceTeacherConfig
    | SeveralTeachersConfig,
    Field(discriminator="kind"),
]
TEACHER_KINDS = ("scripted", "local", "openai", "reference", "several")


def single_teachers(teacher: TeacherConfig | None) -> list[SingleTeacherConfig]:
    """The teachers that `teacher` is made of, compressors included."""
    if teacher is None:
        return []
    if isinstance(teacher, SeveralTeachersConfig):
        return [part for single in teacher.teachers for part in single_teachers(single)]
    if isinstance(teacher, ReferenceTeacherConfig) and teacher.compressor is not None:
        return [teacher, teacher.compressor]
    return [teacher]


def can_complete(teacher: TeacherConfig | None) -> bool:
    """Whether `teacher` can do text tasks: compress, write hints."""
    return any(not isinstance(part, ReferenceTeacherConfig) for part in single_teachers(teacher))
