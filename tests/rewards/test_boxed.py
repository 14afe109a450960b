"""Extraction of the boxed answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zppo.rewards.boxed import extract_boxed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"so \boxed{ 5 }.", "5"),
        ("\\boxed{5\n}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{4} then \boxed{5}", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"x &= 5 \\\boxed{5}", "5"),
        (r"\\boxed{5}", "5"),
        (r"\boxed {5}", "5"),
        (r"{{ \boxed{5}", "5"),
        (r"}} \boxed{5}", "5"),
        (r"</think> \boxed{5}", "5"),
        # a box that does not close, or holds nothing, is passed over
        (r"\boxed{4} and \boxed{5", "4"),
        (r"\boxed{ \boxed{5}", "5"),
        (r"\boxed{5} as \boxed{}", "5"),
        (r"\boxed{5} as \boxed{  }", "5"),
        (r"\boxed{5} in \boxed", "5"),
        (r"\boxed{5} \boxedx{6}", "5"),
        (r"\boxed{}", None),
        (r"\boxed{5", None),
        (r"\boxed 5", None),
        (r"\fbox{5}", None),
        (r"boxed{5}", None),
        (r"\boxed", None),
        ("The answer is 5.", None),
        ("", None),
    ],
)
def test_what_the_box_holds(text: str, content: str | None) -> None:
    assert extract_boxed(text) == content


@given(st.text(alphabet="\\{}boxed 5\n", max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_none_or_something_balanced(text: str) -> None:
    content = extract_boxed(text)
    if content is not None:
        assert content == content.strip() != ""
        assert content in text


@given(st.text(max_size=60).filter(lambda s: s.strip() and not set(s) & set("\\{}")), st.text())
def test_a_box_at_the_end_is_found_after_any_reasoning(answer: str, reasoning: str) -> None:
    assert extract_boxed(f"{reasoning} \\boxed{{{answer}}}") == answer.strip()


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 15_000,
        "\\boxed{" * 7_000 + "}" * 7_000,
        "{" * 100_000,
        "\\" * 100_000,
        "\\boxed" + " " * 100_000,
        ("\\boxed" + " " * 1000) * 100,
        "\\boxed{}" * 12_000,
        "\\boxed{5" + "x" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_time_is_linear_in_hostile_text(text: str) -> None:
    start = time.process_time()
    extract_boxed(text)
    assert time.process_time() - start < 0.2


def test_a_megabyte_of_reasoning_takes_milliseconds() -> None:
    text = r"Let $x = \frac{1}{2}$ and \{a\} be. " * 28_000 + r"\boxed{5}"
    assert len(text) > 1_000_000
    start = time.process_time()
    assert extract_boxed(text) == "5"
    assert time.process_time() - start < 0.05
