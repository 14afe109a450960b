"""Whether a teacher can read the student's tokens and pictures as they are.

Distillation feeds the student's token ids and pixel patches to the teacher and compares the two
distributions id by id, so both models need the same tokenizer, and for media the same patches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zppo.errors import ModelError
from zppo.student.inputs import PromptEncoder
from zppo.student.loading import LoadedModel
from zppo.types import Question

#: Texts that tokenizers of one family split differently: digits, white space, scripts, marks.
_SAMPLES = (
    "Let x_1 = 12345.678; then 2^10 = 1,024.",
    "  two spaces,\ta tab\n\n\nand lines\r\n  - indented",
    "don't I'LL \u201equoted\u201c \u2014 naïve Straße",
    "求和 Σ ≤ ∞ и так далее 🙂👩‍🔬 عدد",
    "<think>\nso\n</think>\n\n\\boxed{\\frac{1}{2}}",
    "<|im_start|>user\n<|im_end|>",
)

#: What decides which patches an image processor makes of a picture.
_PATCHES = (
    *("patch_size", "temporal_patch_size", "merge_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "resample"),
)


def require_same_vocabulary(
    student: LoadedModel, teacher: LoadedModel, names: tuple[str, str]
) -> None:
    """Raise `ModelError`, naming both models and the first difference, unless they share one
    tokenizer. `names` are the student's and the teacher's."""
    difference = _difference(student.tokenizer, teacher.tokenizer)
    if difference:
        raise ModelError(
            f"Distillation needs one tokenizer for student and teacher, and those of `{names[0]}` "
            f"and `{names[1]}` differ: {difference}. Choose a teacher of the student's family; "
            "the methods that let the teacher act in prompts need no shared tokenizer."
        )


def require_same_pictures(
    student: PromptEncoder,
    teacher: PromptEncoder,
    names: tuple[str, str],
    questions: Iterable[Question],
) -> None:
    """Raise `ModelError` unless the teacher can look at the student's pixel patches: one set of
    placeholder tokens, one way to cut a picture. Does not matter where no question has media."""
    unlike = [
        f"{name} {mine} against {its}"
        for name, mine, its in (
            ("placeholder tokens", student.placeholder_ids, teacher.placeholder_ids),
            *((p, _setting(student, p), _setting(teacher, p)) for p in _PATCHES),
        )
        if mine != its
    ]
    if unlike and any(q.media for q in questions):
        raise ModelError(
            "Some questions have media, and distillation shows the student's pixel patches to the "
            f"teacher, but `{names[0]}` and `{names[1]}` do not cut pictures alike: "
            f"{'; '.join(unlike)}. Choose a teacher of the student's family."
        )


def _setting(encoder: PromptEncoder, name: str) -> Any:
    value = getattr(encoder.image_processor, name, None)
    return list(value) if isinstance(value, list | tuple) else value


def _difference(ours: Any, theirs: Any) -> str:
    """The first difference between two tokenizers, in words; empty when there is none."""
    mine, its = ours.get_vocab(), theirs.get_vocab()
    if mine != its:
        odd = sorted(
            token for token in mine.keys() | its.keys() if mine.get(token) != its.get(token)
        )
        example = odd[0]
        places = (f"{v[example]}" if example in v else "missing" for v in (mine, its))
        return (
            f"{len(mine)} and {len(its)} tokens, {len(odd)} of them not the same, for instance "
            f"{example!r} ({' and '.join(places)})"
        )
    if ours.eos_token_id != theirs.eos_token_id:
        return f"turns end with {ours.eos_token!r} and {theirs.eos_token!r}"
    for text in _SAMPLES:
        ids = [t(text, add_special_tokens=False)["input_ids"] for t in (ours, theirs)]
        if ids[0] != ids[1]:
            return f"{text!r} is split into {len(ids[0])} and {len(ids[1])} tokens, or other ones"
    return ""
