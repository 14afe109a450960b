"""A run in which every text that anybody but us wrote tries to get out of its place."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

from tests.runs.fakes import fake_config
from tests.tiny import png
from zppo.config import dump_config

SCRIPT = "document.documentElement.dataset.pwned=1"
ATTACKS = (
    f"</script><script>{SCRIPT}</script>",
    f"<img src=x onerror='{SCRIPT}'>",
    f"\"><svg onload='{SCRIPT}'>",
    f"' autofocus onfocus='{SCRIPT}' x='",
    f"--><!--<script>{SCRIPT}</script>",
    "\x1b]8;;http://example.org\x07\x1b[2J\x1b[31m",
    "\u202egnp.exe\u2066",
    "[bold]not bold[/bold] [/] [link=x]",
    "\udc80\ufffe\x00",
    "a\u2028b\x85c",
)
EVIL = " ".join(ATTACKS)

#: Its name may hold no slash.
NAME = "<img src=x onerror=top.pwned=1>&\u202e"


def hostile_run(folder: Path) -> Path:
    """A run of two steps, whose second one has images and a video."""
    root = folder / NAME
    (root / "rollouts").mkdir(parents=True)
    (root / "media").mkdir()
    (root / "config.yaml").write_text(dump_config(fake_config(root)), "utf-8")
    rows = [_metrics(step) for step in (1, 2)]
    (root / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    accuracy = {"all": 0.5, EVIL: 0.5}
    evaluation = {"step": 0, "accuracy": accuracy, "questions": {"all": 2, EVIL: 2}}
    (root / "evaluations.jsonl").write_text(json.dumps(evaluation) + "\n", "utf-8")
    for i in range(3):
        (root / "media" / f"{i}.png").write_bytes(png(40 + i, 20, i))
    (root / "media" / "broken.png").write_bytes(base64.b64decode("iVBORw0KGgo="))
    for step in (1, 2):
        lines = "".join(json.dumps(row) + "\n" for row in _log(root))
        path = root / "rollouts" / f"step-{step:06d}.jsonl.gz"
        path.write_bytes(gzip.compress(lines.encode("utf-8")))
    return root


def _metrics(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "accuracy/plain": 0.5,
        "zone/hard": 1,
        "groups/plain": 2,
        f"teacher/failed/{EVIL}": 1,
        EVIL: 1.0,
        "buffer/size": 1,
        "buffer/composition": {"0.000": 1},
        "buffer/graduated": 1,
        "buffer/graduated_from": {"0.000": 1},
    }


def _log(root: Path) -> list[dict[str, Any]]:
    rollout = {
        "text": EVIL,
        "reward": 0.0,
        "status": EVIL,
        "extracted": EVIL,
        "tokens": 3,
        "finished": False,
        "injected": False,
        "advantage": -1.0,
    }
    candidate = {"text": EVIL, "original": EVIL + "!", "correct": True, "extracted": EVIL}
    media = [
        {"kind": "image", "parts": [{"path": str(root / "media" / "0.png")}], "fps": None},
        {
            "kind": "video",
            "parts": [{"path": str(root / "media" / f"{i}.png")} for i in range(3)],
            "fps": 2.0,
        },
        {"kind": "image", "parts": [{"path": "/nowhere/<img src=x>.png"}], "fps": None},
        {"kind": "image", "parts": [{"path": str(root / "media/broken.png")}], "fps": None},
        {"kind": "image", "parts": [{"stored": "../../../etc/passwd"}], "fps": None},
        {"kind": EVIL, "parts": []},
    ]
    groups = [
        {
            "type": "group",
            "kind": kind,
            "question": EVIL,
            "source": EVIL,
            "gold": EVIL,
            "media": media,
            "replayed": True,
            "accuracy": 0.5,
            "prompt": EVIL,
            "rollouts": [rollout, {**rollout, "reward": 1.0, "text": EVIL + "?"}],
            "candidates": [candidate],
            "wrong_answers": [EVIL],
        }
        for kind in ("plain", "bcq", "ncq", EVIL)
    ]
    return [
        *groups,
        {"type": "skipped", "question": EVIL, "kind": "bcq", "reason": EVIL},
        {"type": "teacher", "question": EVIL, "rollouts": [{**candidate, "turn": 0}]},
        {
            "type": "teacher_failed",
            "question": EVIL,
            "purpose": "answer",
            "reason": EVIL,
            "count": 1,
        },
    ]
