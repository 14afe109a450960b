from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from zppo.algorithm.methods import METHODS
from zppo.config import MethodName, load_config
from zppo.errors import ConfigError


def test_every_configurable_method_is_in_the_table():
    assert list(METHODS) == list(get_args(MethodName))
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_switches_follow_the_name(method):
    words = ["replay", "bcq", "ncq"] if method.name == "zppo" else method.name.split("+")[1:]
    switches = {f.name for f in dataclasses.fields(method)} - {"name", "distill"}
    assert {s for s in switches if getattr(method, s)} == set(words)
    policy, _, distils = method.name.split("+")[0].partition("_")
    assert method.distill == (policy if distils else None)


def test_what_each_method_asks_of_the_teacher():
    asking = {name for name, method in METHODS.items() if method.needs_teacher_samples}
    on_policy = {"on_distill", "on_distill+replay"}
    assert asking == set(METHODS) - {"grpo", "grpo+replay", "grpo+replay+ncq"} - on_policy
    everything = {name for name, method in METHODS.items() if method.teaches_all}
    assert everything == {"off_distill", "off_distill+replay"}
    adding = {name for name, method in METHODS.items() if method.reformulates}
    plain = {"grpo", "grpo+replay", "grpo+replay+inject"}
    assert adding == set(METHODS) - plain - everything - on_policy


@pytest.mark.parametrize("method", [m for m in get_args(MethodName) if "distill" in m])
@pytest.mark.parametrize("teacher", ["null", "{kind: scripted}", "{kind: reference}"])
def test_distillation_wants_a_teacher_whose_distributions_can_be_read(method, teacher):
    with pytest.raises(ConfigError, match=r"teacher\.kind"):
        load_config("lab", [f"method={method}", f"teacher={teacher}"])
