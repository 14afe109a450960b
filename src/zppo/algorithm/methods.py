"""The methods this library compares, as switches of one training step (method section 5).

All of them share the data, the student, the sampling and the optimiser, and all but the two of
distillation the loss. They differ in which groups enter the gradient, and that is all this table
says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zppo.config import MethodName


@dataclass(frozen=True, slots=True)
class Method:
    """What one method adds to the plain rollouts of GRPO, or puts in their place.

    replay  questions from the prompt replay buffer are visited again, on top of the new ones.
    bcq     hard questions also get a prompt with one right and one wrong candidate.
    ncq     hard questions also get a prompt with their wrong rollouts.
    hint    hard questions also get a prompt with a teacher's answer-free hint.
    prefix  hard questions also get rollouts that start from a correct teacher rollout, cut short;
            the forced tokens are context, no loss reaches them.
    inject  in all-wrong groups a correct teacher response takes a rollout's place. The one
            gradient of GRPO that holds tokens the student did not sample: the naive baseline of
            fig. 1.
    distill instead of GRPO's update: one towards the teacher's distribution at every token, `off`
            policy on correct fresh teacher rollouts of all questions, or `on` policy on the
            student's own plain rollouts.
    """

    name: MethodName
    replay: bool = False
    bcq: bool = False
    ncq: bool = False
    hint: bool = False
    prefix: bool = False
    inject: bool = False
    distill: Literal["off", "on"] | None = None

    @property
    def needs_teacher_samples(self) -> bool:
        """Whether the teacher answers questions. NCQ alone only asks it to compress."""
        return self.bcq or self.hint or self.prefix or self.inject or self.teaches_all

    @property
    def teaches_all(self) -> bool:
        """Whether the teacher answers every question of a step, not the hard ones alone."""
        return self.distill == "off"

    @property
    def prompts_per_question(self) -> int:
        """The most prompts, and so groups, that a hard question gets beside its plain one."""
        return self.bcq + self.ncq + self.hint + self.prefix

    @property
    def reformulates(self) -> bool:
        """Whether hard questions get prompts beside the plain one."""
        return self.prompts_per_question > 0


METHODS: dict[MethodName, Method] = {
    method.name: method
    for method in (
        Method("grpo"),
        Method("grpo+replay", replay=True),
        Method("grpo+bcq+ncq", bcq=True, ncq=True),
        Method("grpo+replay+bcq", replay=True, bcq=True),
        Method("grpo+replay+ncq", replay=True, ncq=True),
        Method("zppo", replay=True, bcq=True, ncq=True),
        Method("grpo+replay+hint", replay=True, hint=True),
        Method("grpo+replay+prefix", replay=True, prefix=True),
        Method("grpo+replay+inject", replay=True, inject=True),
        Method("off_distill", distill="off"),
        Method("off_distill+replay", replay=True, distill="off"),
        Method("on_distill", distill="on"),
        Method("on_distill+replay", replay=True, distill="on"),
    )
}
