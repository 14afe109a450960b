"""Pages made of hostile text: first read as HTML here, then opened in a browser."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.report.browser import on_a_phone, require_browser
from tests.report.hostile import EVIL, SCRIPT, hostile_run
from zppo.report.audit_command import audit_runs
from zppo.report.page import data_block
from zppo.report.report import report
from zppo.report.selection import Filter
from zppo.report.show import show
from zppo.report.text import visible

ALL = Filter(steps=(1, 2))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def pages(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    report([run], folder / "report.html")
    show(run, ALL, html=folder / "show.html", console=Console(file=io.StringIO()))
    return {name: (folder / f"{name}.html").read_text("utf-8") for name in ("report", "show")}


class _Reader(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("name", ["report", "show"])
def test_what_was_written_elsewhere_stays_text(pages: dict[str, str], name: str) -> None:
    reader = _Reader(pages[name])
    scripts = [attrs for tag, attrs in reader.tags if tag == "script"]
    assert len(scripts) == (2 if name == "report" else 1)  # data, and our own
    for tag, attrs in reader.tags:
        assert not [a for a in attrs if a.startswith("on")], (tag, attrs)
        source = attrs.get("src") or attrs.get("href")
        assert source is None or source.startswith("data:image/webp;base64,")
    assert visible(EVIL) in "".join(reader.words)


@pytest.mark.parametrize("name", ["report", "show"])
def test_no_character_that_acts_is_left(pages: dict[str, str], name: str) -> None:
    page = pages[name]
    assert not {"\x1b", "\x07", "\x00", "\u202e", "\u2066", "\u2028", "\x85"} & set(page)
    assert "http:" not in page.replace("http://example.org", "").replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_the_policy_allows_our_script_by_its_hash_and_no_network(pages: dict[str, str]) -> None:
    for page in pages.values():
        policy = page.partition('Content-Security-Policy" content="')[2].partition('"')[0]
        assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
        assert "unsafe-eval" not in policy and "http" not in policy


def test_drawings_of_hostile_names_are_whole_xml(run: Path, tmp_path: Path) -> None:
    report([run], tmp_path / "r.html", svg_folder=tmp_path / "svg")
    for path in (tmp_path / "svg").iterdir():
        tags = {e.tag.rpartition("}")[2] for e in ElementTree.parse(path).iter()}
        assert tags <= {"svg", "style", "rect", "text", "g", "path", "circle"}


def test_a_data_block_cannot_be_left() -> None:
    block = data_block("data", {"x": "</script><!--<script>\u2028"})
    assert block.count("<") == 2 and "\u2028" not in block


def test_images_are_inlined_and_what_cannot_be_shown_is_said(pages: dict[str, str]) -> None:
    page = pages["show"]
    assert page.count("<img ") == 4 * 2  # an image and three frames, at each of two steps
    assert "image, 40 x 20" in page and "3 frames, 40 x 20, 1.0 s" in page
    assert "/nowhere/&lt;img src=x&gt;.png: no such file" in page
    assert "broken.png: not an" in page
    assert "passwd" in page and "root:" not in page


def test_a_terminal_gets_no_escape_sequence_from_a_model(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for full in (False, True):
        out = io.StringIO()
        show(run, ALL, full=full, limit=9, console=Console(file=out, width=120))
        shown = out.getvalue()
        assert not {"\x1b", "\x07", "\u202e", "\u2066", "\x00"} & set(shown)
        assert "[bold]not bold" in shown
        shown.encode("utf-8")
    audit_runs([run], None, "table")
    assert not {"\x1b", "\u202e"} & set(capsys.readouterr().out)
    audit_runs([run], None, "markdown")
    assert "<" not in capsys.readouterr().out.replace("\\<", "")


_HOVER = """(page, found, window) => {
  const svg = page.querySelector("figure.chart svg");
  svg.focus();
  svg.dispatchEvent(new window.KeyboardEvent("keydown", { key: "End" }));
  found.tip = page.querySelector(".tip").textContent;
  const all = page.querySelectorAll('[data-run="0"]');
  page.querySelector(".bar button").click();
  found.hidden = [...all].every(part => part.hasAttribute("hidden"));
  const before = window.getComputedStyle(page.body).backgroundColor;
  page.getElementById("theme").click();
  found.themed = before !== window.getComputedStyle(page.body).backgroundColor;
}"""

_NARROW = """(page, found, window) => {
  const kind = page.getElementById("kind");
  found.kinds = kind.options.length;
  kind.value = "bcq";
  kind.dispatchEvent(new window.Event("input"));
  found.shown = [...page.querySelectorAll("[data-kind]")].filter(g => !g.hidden).length;
  found.images = [...page.images].every(image => image.naturalWidth > 0);
  const search = page.getElementById("search");
  search.value = "nowhere to be found";
  search.dispatchEvent(new window.Event("input"));
  found.count = page.getElementById("count").textContent;
}"""


@pytest.mark.browser
def test_a_report_in_a_browser(pages: dict[str, str], tmp_path: Path) -> None:
    require_browser()
    found = on_a_phone(pages["report"], _HOVER, tmp_path)
    assert found["pwned"] is None and found["handlers"] == 0 and found["scripts"] == 2
    assert found["width"] == 390  # no sideways scrolling
    assert str(found["tip"]).startswith("step 0") and "50.0%" in str(found["tip"])
    assert found["hidden"] and found["themed"]


@pytest.mark.browser
def test_rollouts_in_a_browser(pages: dict[str, str], tmp_path: Path) -> None:
    require_browser()
    found = on_a_phone(pages["show"], _NARROW, tmp_path)
    assert found["pwned"] is None and found["handlers"] == 0 and found["scripts"] == 1
    assert found["width"] == 390
    assert found["kinds"] == 6  # all, plain, BCQ, NCQ, the hostile one, teacher
    assert found["shown"] == 2 and found["images"] and found["count"] == "0 questions"


@pytest.mark.browser
def test_the_browser_would_have_run_it(tmp_path: Path) -> None:
    """The attack itself, unescaped and without the policy: what the tests above would see."""
    require_browser()
    page = f"<!doctype html><html><body><script>{SCRIPT}</script></body></html>"
    assert on_a_phone(page, "() => {}", tmp_path)["pwned"] == "1"
