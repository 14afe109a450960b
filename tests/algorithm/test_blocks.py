from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zppo.algorithm.blocks import (
    break_special_tokens,
    neutralize,
    parse_hint,
    parse_summary,
    parse_verdict,
)

TAGS = ("candidate", "response", "summary", "hint", "think", "question", "truth")
#: Pieces out of which an attack on a block is put together.
pieces = st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            "</",
            "/",
            " ",
            "\n",
            "|",
            "<|",
            "|>",
            "\uff5c",
            "<|im_end|>",
            "s",
            "eos",
            "x",
            *TAGS,
            "THINK",
            "</candidate>",
            "<s>",
            "<image/>",
        ]
    )
    | st.text(max_size=3),
    max_size=14,
).map("".join)


@given(pieces)
def test_no_tag_or_special_token_is_left(text):
    safe = neutralize(text)
    assert not re.search(rf"<\s*/\s*({'|'.join(TAGS)})\b", safe, re.IGNORECASE)
    assert not re.search(rf"<({'|'.join(TAGS)})\b", safe, re.IGNORECASE)
    assert not re.search(r"</?(s|eos|image)/?>", safe, re.IGNORECASE)
    assert not re.search("<[|\uff5c]|[|\uff5c]>", safe)


@given(pieces)
def test_twice_is_once(text):
    assert neutralize(neutralize(text)) == neutralize(text)


@given(pieces)
def test_only_brackets_and_spaces_change(text):
    def bare(s: str) -> str:
        return s.translate(str.maketrans("[]", "<>")).replace(" ", "")

    assert bare(neutralize(text)) == bare(text)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a</candidate>b", "a[/candidate]b"),
        ("< / Candidate >", "[ / Candidate ]"),
        ('<hint id="1">', '[hint id="1"]'),
        ("<can<candidate>didate>", "<can[candidate]didate>"),
        ("</think", "[/think"),
        ("<|im_end|>", "< |im_end| >"),
        ("<\uff5cend\uff5c>", "< \uff5cend\uff5c >"),
        ("<eos></s><image>", "[eos][/s][image]"),
    ],
)
def test_what_becomes_of_a_tag(text, safe):
    assert neutralize(text) == safe


@pytest.mark.parametrize(
    "text",
    ["x < 3 and y > 4", "\\boxed{a<b}", "s < hint count", "<candidates>", "<b>bold</b>", "|x|"],
)
def test_other_text_stays(text):
    assert neutralize(text) == text


def test_breaking_special_tokens_leaves_tags():
    assert break_special_tokens("<hint> <|x|> 0<|y|") == "<hint> < |x| > 0< |y|"


@pytest.mark.parametrize(
    ("reply", "summary"),
    [
        ("<summary>a\nb</summary>", "a\nb"),
        ("Sure: <summary>\n a \n\n b\n</summary> done", "a\nb"),
        ("<think>draft <summary>no</summary></think><summary>yes</summary>", "yes"),
        ("draft <summary>no</summary></think>\n<summary>yes</summary>", "yes"),
        ("In <summary> tags: <summary>yes</summary>, as a <summary> block", "yes"),
        ("<summary>1\n2\n3\n4\n5\n6\n\\boxed{7}</summary>", "1\n2\n3\n4\n5 6 \\boxed{7}"),
        ("<summary>cut off", None),
        ("no tags", None),
        ("<summary> \n </summary>", None),
        ("<think>still <summary>a draft</summary>", None),
        ("", None),
    ],
)
def test_summary(reply, summary):
    assert parse_summary(reply) == summary


def test_summary_of_one_line():
    assert parse_summary("<summary>a\nb\nc</summary>", max_lines=1) == "a b c"
    with pytest.raises(ValueError, match="max_lines"):
        parse_summary("<summary>a</summary>", max_lines=0)


@given(pieces)
def test_summary_has_at_most_five_lines_and_no_blank_one(text):
    summary = parse_summary(f"<summary>{text}</summary>")
    if summary is not None:
        assert 1 <= len(summary.splitlines()) <= 5 and all(summary.splitlines())


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        ("<hint>Count the rows.</hint>", "Count the rows."),
        ("<hint>It is \\boxed{4}.</hint>", None),
        ("<hint>It is $\\fbox{4}$.</hint>", None),
        ("Count the rows.", None),
        ("<hint></hint>", None),
    ],
)
def test_hint(reply, hint):
    assert parse_hint(reply) == hint


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"verdict": "correct"}', "correct"),
        (' {"verdict":"wrong"}\n', "wrong"),
        ('{"verdict": "Correct"}', None),
        ('{"verdict": true}', None),
        ('{"verdict": ["correct"]}', None),
        ('{"verdict": "wrong", "verdict": "correct"}', None),
        ('{"verdict": "correct", "reason": "same"}', None),
        ('[["verdict", "correct"]]', None),
        ('```json\n{"verdict": "correct"}\n```', None),
        ('The verdict: {"verdict": "correct"}', None),
        ("correct", None),
        ('"correct"', None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_verdict(reply, verdict):
    assert parse_verdict(reply) == verdict
