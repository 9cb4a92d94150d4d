"""What is shown of a run that goes on."""

import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.progress import Progress

from benchmarks.cli import live, main
from benchmarks.cli.live import Loops, _Bars, line, shown
from edgewise.progress import note, observed_by, track


def test_a_line_says_where_all_loops_are() -> None:
    lines: list[str] = []
    with observed_by(Loops(0.0, lambda loops: lines.append(line(loops)))):
        for _ in track(range(2), "cells"):
            note(lambda: {"now": "a-cell"})
            for step in track(range(1200), "edge-pruning", total=1200):
                if step == 1000:
                    note(lambda: {"loss": 0.123456, "edges left": 1500})
                    break
    expected = "cells 0/2 (now a-cell) > edge-pruning 1,000/1,200 (loss 0.1235, edges left 1,500)"
    assert expected in lines


def test_what_is_said_is_asked_for_only_now_and_then() -> None:
    with observed_by(Loops(1e9, lambda _: pytest.fail("not due"))):
        for _ in track(range(3), "cells"):
            note(lambda: pytest.fail("not due"))


def test_bars_come_and_go_with_their_loops() -> None:
    with Progress(disable=True) as progress:
        loops = Loops(0.0, _Bars(progress))
        loops.begin("cells", 3, 0)
        loops.begin("acdc", 8, 2)
        loops.note(lambda: {"edges left": 7})
        first, second = progress.tasks
        assert (first.description, first.total, second.completed) == ("cells", 3, 2)
        assert (
            first.fields["said"].startswith("memory ") and second.fields["said"] == "edges left 7"
        )
        loops.end()
        loops.step()
        (only,) = progress.tasks
        assert only.completed == 1


def test_a_terminal_has_one_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with shown():
        for _ in track(range(2), "cells"):
            note(lambda: {"now": "a-cell"})
    assert "cells" in terminal.getvalue() and "a-cell" in terminal.getvalue()


def test_elsewhere_a_long_run_has_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(live, "LINE_SECONDS", 0.0)
    command = ["discover", "--method", "acdc", "--task", "tracr-xproportion"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path)])
    assert result.exit_code == 0
    assert "cells 0/2 (now tracr-xproportion-acdc-" in result.stderr
    assert "> acdc " in result.stderr and "edges left " in result.stderr
