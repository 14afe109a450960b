"""Prompts that were encoded a moment ago."""

from __future__ import annotations

from dataclasses import replace

from tests import tiny
from zppo.student.recent import Recent


def test_the_oldest_go_first():
    kept = Recent[str](10)
    a, b, c = (tiny.prompt(text) for text in "abc")
    kept.put(a, "A", 4)
    kept.put(b, "B", 4)
    assert (kept.get(a), kept.get(b), kept.get(c)) == ("A", "B", None)
    kept.put(c, "C", 4)
    assert (kept.get(a), kept.get(b), kept.get(c)) == (None, "B", "C")


def test_what_is_too_large_alone_is_not_kept():
    kept = Recent[str](10)
    a, b = tiny.prompt("a"), tiny.prompt("b")
    kept.put(a, "A", 4)
    kept.put(b, "B", 11)
    assert (kept.get(a), kept.get(b)) == ("A", None)


def test_another_prompt_with_the_same_text_is_another_prompt():
    kept = Recent[str](10)
    a = tiny.prompt("a")
    kept.put(a, "A", 1)
    kept.put(a, "again", 1)
    assert kept.get(a) == "A"
    assert kept.get(replace(a)) is None


def test_a_prompt_is_encoded_once(monkeypatch):
    encoder = tiny.student("vlm").encoder
    prompts = tiny.prompts("vlm")
    first = encoder.encode_all(prompts)
    lengths = [encoder.length(p) for p in prompts]
    monkeypatch.setattr(encoder, "_encode", None)
    assert all(a is b for a, b in zip(encoder.encode_all(prompts), first, strict=True))
    assert [encoder.length(p) for p in prompts] == lengths == [len(e) for e in first]
