"""The seam between the algorithm and whatever answers as the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from zppo.types import Question, TeacherFailure

if TYPE_CHECKING:
    from torch import Tensor

    from zppo.student.inputs import EncodedPrompt

Purpose = Literal["compress", "hint", "judge"]


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """A text task for the teacher. `prompt` is the rendered template; `question` and `purpose`
    let a scripted teacher answer without reading it."""

    purpose: Purpose
    question: Question
    prompt: str
    source_text: str  # the response to compress, to hint at, or to judge
    max_tokens: int = 512
    temperature: float = 0.0  # 0: greedy; a task that is asked again is sampled
    #: The JSON schema the reply should follow. A wish: not every server can make a model keep to
    #: it, so whoever sets it checks the reply all the same.
    schema: Mapping[str, Any] | None = None


class Teacher(Protocol):
    """A frozen model that only ever acts inside prompts. A failed call is a value, not an error:
    the question goes on without it and the reason is recorded."""

    async def sample(
        self, prompts: Sequence[tuple[Question, str]], n: int, seed: Sequence[int]
    ) -> list[list[str]]:
        """`n` fresh responses to each (question, user-turn text), in order. A question whose
        calls failed has fewer, down to none."""
        ...

    async def complete(
        self, requests: Sequence[TeacherRequest], seed: Sequence[int]
    ) -> list[str | None]:
        """The reply to each request, None where the call failed."""
        ...


# What a teacher may do beyond the protocol. Each is looked for, none is needed.


@runtime_checkable
class ReportsFailures(Protocol):
    """A teacher that knows why a call failed."""

    def drain_failures(self) -> list[TeacherFailure]:
        """Everything that failed since the last call, with its reason."""
        ...


@runtime_checkable
class HasTurns(Protocol):
    """Several teachers in order: each is asked what those before it left unsolved."""

    @property
    def turns(self) -> Sequence[Teacher]: ...


@runtime_checkable
class ReadsTokens(Protocol):
    """A teacher in this process whose distributions over the next token can be read: what the
    distillation baselines compare the student with. Shapes as in `zppo.student.prefix`."""

    @property
    def vocabulary_size(self) -> int:
        """Token ids it has embeddings for."""
        ...

    def hidden(
        self, prompts: Sequence[EncodedPrompt], rows: Tensor, responses: Tensor, lengths: Tensor
    ) -> Tensor:
        """(N, H) hidden states that predict each of the N tokens of right-padded `responses`
        (R, T) to the prompts of `rows` (R,), which hold `lengths` (R,) tokens, one response after
        the other. Without gradient."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, V) logits of (N, H) hidden states."""
        ...


@runtime_checkable
class ChecksQuestions(Protocol):
    """A teacher that knows beforehand what it cannot read."""

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Raise `ModelError` naming the first question whose media it cannot take."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A teacher that holds connections."""

    async def aclose(self) -> None:
        """Let go of them, within the event loop that used them. The teacher stays usable."""
        ...


def turns_of(teacher: Teacher) -> Sequence[Teacher]:
    """The teachers to ask one after the other; mostly the one."""
    return teacher.turns if isinstance(teacher, HasTurns) else (teacher,)


async def close_teacher(teacher: Teacher | None) -> None:
    """Close its connections, if it has any."""
    if isinstance(teacher, Closes):
        await teacher.aclose()
