from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from zppo.runs.progress import Display, show_result
from zppo.runs.result import RunResult

METRICS = {
    "accuracy/plain": 0.25,
    "accuracy/bcq": 0.5,
    "accuracy/ncq": 0.125,
    "buffer/size": 7,
    "update/loss": -0.01,
    "time/total": 30.0,
    "time/tokens_per_second": 1234.5,
}


def _console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_log_file_gets_one_line_a_step() -> None:
    console = _console()
    with Display(10, console=console) as display:
        display.begin(4)
        for done in range(5):
            display.phase("plain", done, 4)
        display.step(4, METRICS)
    assert _text(console) == (
        "step 4/10  plain 25.0%  BCQ 50.0%  NCQ 12.5%  buffer 7  loss -0.0100  1,234 tok/s"
        "  left 3:00\n"
    )


def test_a_terminal_sees_the_phase() -> None:
    console = _console(terminal=True)
    with Display(10, console=console) as display:
        display.begin(4)
        display.phase("reformulated", 1, 2)
        assert "step 4/10  reformulated rollouts" in display._live_line().plain
        assert "1/2" in display._live_line().plain
        display.step(4, METRICS)
        display.begin(5)
        display.phase("update", 0, 1)
        assert display._live_line().plain == "step 5/10  update  0:00, about 3:00 left"


def test_quiet_shows_warnings_only() -> None:
    console = _console()
    with Display(10, quiet=True, console=console) as display:
        display.step(1, METRICS)
        display.note("hello")
        display.evaluation(0, {"all": 0.5})
        display.warn("careful [1/2]")
    assert _text(console) == "warning: careful [1/2]\n"


def test_the_end_names_accuracy_graduations_place_and_next_commands() -> None:
    console = _console()
    result = RunResult(
        run_dir=Path("runs/zppo-1"),
        steps=60,
        seconds=425,
        complete=True,
        before={"all": 0.4, "text": 0.3, "image": 0.5},
        after={"all": 0.6, "text": 0.55, "image": 0.65},
        questions={"all": 20, "text": 10, "image": 10},
        graduations=12,
    )
    show_result(result, console)
    text = _text(console)
    for expected in ("text", "30.0%", "55.0%", "+25.0", "12 questions graduated", "7:05"):
        assert expected in text
    assert "zppo resume runs/zppo-1 run.steps=120" in text


def test_a_stopped_run_says_how_to_go_on() -> None:
    console = _console()
    show_result(RunResult(Path("runs/zppo-1"), 7, 10.0, False, before={"all": 0.4}), console)
    assert _text(console) == "Stopped after step 7. Go on with: zppo resume runs/zppo-1\n"
