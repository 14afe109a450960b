"""A real browser, where there is one: what a page becomes in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def require_browser() -> str:
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed (Debian: apt-get install chromium)")
    return BROWSER


def dom(path: Path, profile: Path) -> str:
    """The document after its scripts have run. Nothing outside this machine is reachable."""
    command = [
        require_browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=3000",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return done.stdout.decode("utf-8")


#: Holds a page as a phone would, presses and points at things, and writes down what it finds.
_HARNESS = """<!doctype html><meta charset=utf-8>
<iframe id=frame style="width:390px;height:800px;border:0"></iframe><pre id=found></pre>
<script>
frame.onload = () => setTimeout(() => {
  const page = frame.contentDocument, found = {};
  found.width = page.documentElement.scrollWidth;
  found.pwned = page.documentElement.dataset.pwned ?? null;
  found.scripts = page.querySelectorAll("script").length;
  found.handlers = [...page.querySelectorAll("*")].flatMap(e => [...e.attributes])
    .filter(a => a.name.startsWith("on")).length;
  (PROBE)(page, found, frame.contentWindow);
  document.getElementById("found").textContent = JSON.stringify(found);
}, 300);
frame.srcdoc = PAGE;
</script>"""


def on_a_phone(page: str, probe: str, folder: Path) -> dict[str, object]:
    """What `probe`, a function of (document, found, window), finds in the page 390 pixels wide.

    Always found: `width` of the document, `pwned` (set by a script that should not have run),
    the number of `scripts` and of event `handlers` in attributes.
    """
    import html
    import json

    content = json.dumps(page).replace("<", "\\u003c")
    harness = folder / "harness.html"
    harness.write_text(_HARNESS.replace("PROBE", probe).replace("PAGE", content), "utf-8")
    shown = dom(harness, folder / "profile")
    found = shown.partition('<pre id="found">')[2].partition("</pre>")[0]
    assert found, "the page did not load"
    return json.loads(html.unescape(found))
