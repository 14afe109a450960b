"""What a model writes cannot act on the screen that shows it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from zppo.report.tables import Table, html, markdown, terminal
from zppo.report.text import cut, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("over\rwritten\x08", r"over\x0dwritten\x08"),
        ("\x9b31m", r"\x9b31m"),  # the one-byte form of ESC [
        ("user\u202egpj.exe\u2066", r"user\u202egpj.exe\u2066"),
        ("a\u200bb\ufeffc\u2028d", r"a\u200bb\ufeffc\u2028d"),
        ("\U000e0041", r"\U000e0041"),  # a tag character, read by models and seen by nobody
        ("\udc80", r"\udc80"),  # half of a byte-level token
        ("\ufffe\ufdd0\U0001ffff", r"\ufffe\ufdd0\U0001ffff"),
        ("two\nlines\tand tabs", "two\nlines\tand tabs"),
        ("é 漢 عربي 👩\u200d🔬", "é 漢 عربي 👩\u200d🔬"),
    ],
)
def test_what_would_act_is_spelt_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_visible_text_can_be_written_and_holds_no_control(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in shown)


@given(st.text(max_size=300), st.integers(1, 60))
def test_one_line_is_one_line_within_its_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width and len(line.splitlines()) <= 1


def test_cut_says_how_much_is_gone() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("a" * 1_203, 3) == "aaa\n[... 1,200 more characters]"


HOSTILE = Table(
    "t<i>", ("run", "n"), (("</td><script>x</script>|[bold]\x1b[2J", "1"),), note="<b>n</b>"
)


def test_a_table_of_hostile_names_stays_a_table() -> None:
    page = html(HOSTILE)
    assert "<script" not in page and "<b>" not in page and "<i>" not in page
    assert "&lt;script&gt;" in page and r"\x1b[2J" in page
    row = markdown(HOSTILE).splitlines()[4]
    assert row.startswith(r"| \</td\>\<script\>x")
    assert row.replace("\\|", "").count("|") == 3
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200).print(terminal(HOSTILE))
    assert "[bold]" in out.getvalue() and "\x1b[2J" not in out.getvalue()
