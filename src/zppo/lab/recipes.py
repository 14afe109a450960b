"""What the lab's models are trained on, stage by stage.

The student learns to add short chains, to read candidates, then to weigh them; long chains stay
rare in its plain examples, so that they are the zone RL starts from. The teacher goes on from the
student's first stage with chains of every length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Levels = Mapping[int, float]
#: Which puzzles the student is asked when its mistakes are collected.
#: Short chains bring few: the candidates for those are mistakes made on the next longer ones.
ASK = {"text": (5, 6, 7, 8), "image": (5, 6, 7, 8), "video": (4, 8)}


@dataclass(frozen=True, slots=True)
class Stage:
    """`mixture`: examples a step by kind ("plain/text", "caption/image", "bcq/text", ...).
    `levels`: how often each chain length comes up, by kind or family. `refresh`: steps between
    two samplings of the student's own mistakes, 0 for none; `ask`: puzzles asked a family and
    level then."""

    name: str
    steps: int
    mixture: Mapping[str, int]
    levels: Mapping[str, Levels]
    lr: tuple[float, float]  # from, to
    refresh: int = 0
    ask: int = 64
    cosine: int = 0  # steps of the whole cosine, where the stage stops before its end


#: Long chains are rare on purpose: they are the zone that RL starts from.
_EASY: Levels = {2: 3, 3: 3, 4: 3, 5: 2, 6: 0.3, 7: 0.1, 8: 0.05}
_SHORT: Levels = {2: 3, 3: 3, 4: 3, 5: 2}
#: A few long chains at the end, so that the student is unsure of them rather than surely wrong.
_ZONE_TEXT: Levels = {2: 3, 3: 3, 4: 3, 5: 2, 6: 0.1, 7: 0.15, 8: 0.15}
_ZONE_IMAGE: Levels = {2: 3, 3: 3, 4: 3, 5: 2, 6: 0.07, 7: 0.1, 8: 0.1}
_ALL: Levels = {3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1}
_HARD: Levels = {5: 1, 6: 2, 7: 2, 8: 2}
_CAPTION: Levels = dict.fromkeys(range(1, 9), 1.0)
_EASY_LEVELS: Mapping[str, Levels] = {
    "text": _EASY,
    "image": _EASY,
    "video": {4: 1.0, 8: 0.05},
    "caption/image": _CAPTION,
    "caption/video": {4: 1.0, 8: 1.0},
}
_CANDIDATE_LEVELS: Mapping[str, Levels] = {
    "plain/text": _SHORT,
    "plain/image": _SHORT,
    "plain/video": {4: 1.0},
    "caption/image": _CAPTION,
    "text": _ALL,
    "image": _ALL,
    "video": {4: 1.0, 8: 1.0},
}
_MISTAKE_LEVELS: Mapping[str, Levels] = {**_CANDIDATE_LEVELS, "text": _HARD, "image": _HARD}
_SOME_PLAIN = {"caption/image": 2, "plain/text": 10, "plain/image": 8, "plain/video": 2}

STUDENT: tuple[Stage, ...] = (
    Stage(
        "plain",
        steps=1000,
        cosine=3000,
        mixture={
            "caption/image": 12,
            "caption/video": 4,
            "plain/text": 32,
            "plain/image": 20,
            "plain/video": 6,
        },
        levels=_EASY_LEVELS,
        lr=(3e-3, 1e-3),
    ),
    Stage(
        "single",
        steps=400,
        mixture={**_SOME_PLAIN, "single/text": 24, "single/image": 16, "single/video": 4},
        levels=_CANDIDATE_LEVELS,
        lr=(2e-3, 1.5e-3),
    ),
    Stage(
        "bcq",
        steps=500,
        mixture={**_SOME_PLAIN, "bcq/text": 20, "bcq/image": 16, "bcq/video": 4},
        levels=_MISTAKE_LEVELS,
        lr=(1.5e-3, 1e-3),
        refresh=250,
        ask=32,
    ),
    Stage(
        "ncq",
        steps=200,
        cosine=450,
        mixture={
            **_SOME_PLAIN,
            "bcq/text": 6,
            "bcq/image": 6,
            "bcq/video": 2,
            "ncq/text": 14,
            "ncq/image": 14,
            "ncq/video": 2,
        },
        levels=_MISTAKE_LEVELS,
        lr=(1e-3, 3e-4),
        refresh=90,
    ),
    Stage(
        "settle",
        steps=40,
        mixture={
            "caption/image": 4,
            "plain/text": 20,
            "plain/image": 16,
            "plain/video": 4,
            "bcq/text": 6,
            "bcq/image": 6,
            "bcq/video": 2,
            "ncq/text": 8,
            "ncq/image": 8,
            "ncq/video": 2,
        },
        levels={
            **_MISTAKE_LEVELS,
            "plain/text": _ZONE_TEXT,
            "plain/image": _ZONE_IMAGE,
            "plain/video": {4: 1.0, 8: 0.05},
        },
        lr=(3e-4, 5e-5),
    ),
)

TEACHER: tuple[Stage, ...] = (
    Stage(
        "teacher",
        steps=500,
        mixture={
            "caption/image": 8,
            "caption/video": 6,
            "plain/text": 22,
            "plain/image": 22,
            "plain/video": 10,
        },
        levels={
            "text": {2: 1, **_ALL},
            "image": {2: 1, **_ALL},
            "video": {4: 1.0, 8: 2.0},
            "caption/image": _CAPTION,
            "caption/video": {4: 1.0, 8: 2.0},
        },
        lr=(2e-3, 1e-4),
    ),
)

_LONG: Levels = {6: 1, 7: 1, 8: 1}
_HABIT_LEVELS: Mapping[str, Levels] = {
    **_CANDIDATE_LEVELS,
    "habit/text": _LONG,
    "habit/image": _LONG,
    "habit/video": {8: 1.0},
    "text": {5: 0.5, **_LONG},
    "image": {5: 0.5, **_LONG},
}
#: A student that could, but does not: it learns the whole skill, and then the habit to stop after
#: five digits. What its plain prompts lack is the choice, not the skill.
HABIT: tuple[Stage, ...] = (
    Stage(
        "skill",
        steps=300,
        mixture={
            "caption/image": 4,
            "plain/text": 20,
            "plain/image": 20,
            "plain/video": 6,
            "bcq/text": 6,
            "bcq/image": 6,
            "bcq/video": 2,
            "ncq/text": 4,
            "ncq/image": 4,
            "ncq/video": 1,
        },
        levels={
            "caption/image": _CAPTION,
            "text": {2: 1, **_ALL},
            "image": {2: 1, **_ALL},
            "video": {4: 1.0, 8: 2.0},
        },
        lr=(1e-3, 2e-4),
        refresh=300,
    ),
    Stage(
        "habit",
        steps=200,
        mixture={
            "caption/image": 2,
            "plain/text": 10,
            "plain/image": 8,
            "plain/video": 2,
            "habit/text": 12,
            "habit/image": 12,
            "habit/video": 3,
            "bcq/text": 8,
            "bcq/image": 8,
            "bcq/video": 2,
            "ncq/text": 4,
            "ncq/image": 4,
            "ncq/video": 1,
        },
        levels=_HABIT_LEVELS,
        lr=(5e-4, 5e-5),
        refresh=50,
    ),
    # Until here it follows the right candidate always, so that a reformulated group is all right.
    # Half of the targets out of habit make it waver.
    Stage(
        "waver",
        steps=80,
        mixture={
            "caption/image": 2,
            "plain/text": 8,
            "plain/image": 8,
            "plain/video": 2,
            "habit/text": 8,
            "habit/image": 8,
            "habit/video": 2,
            "bcq/text": 5,
            "bcq/image": 5,
            "bcq-habit/text": 5,
            "bcq-habit/image": 5,
            "ncq/text": 2,
            "ncq/image": 2,
            "ncq-habit/text": 4,
            "ncq-habit/image": 4,
        },
        levels=_HABIT_LEVELS,
        lr=(3e-4, 3e-5),
        refresh=80,
    ),
)

RECIPES: Mapping[str, tuple[Stage, ...]] = {
    "student": STUDENT,
    "teacher": TEACHER,
    "habit": HABIT,
}
#: Where a recipe goes on: the stage of another one whose state it starts from.
STARTS: Mapping[str, tuple[str, str]] = {
    "teacher": ("student", "plain"),
    "habit": ("student", "settle"),
}
