from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from zppo.algorithm.methods import METHODS
from zppo.config import MethodName


def test_every_configurable_method_is_in_the_table():
    assert list(METHODS) == list(get_args(MethodName))
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_switches_follow_the_name(method):
    words = ["replay", "bcq", "ncq"] if method.name == "zppo" else method.name.split("+")[1:]
    switches = {f.name for f in dataclasses.fields(method)} - {"name"}
    assert {s for s in switches if getattr(method, s)} == set(words)


def test_what_each_method_asks_of_the_teacher():
    asking = {name for name, method in METHODS.items() if method.needs_teacher_samples}
    assert asking == set(METHODS) - {"grpo", "grpo+replay", "grpo+replay+ncq"}
    adding = {name for name, method in METHODS.items() if method.reformulates}
    assert adding == set(METHODS) - {"grpo", "grpo+replay", "grpo+replay+inject"}
