"""Runs that are killed or share a folder are compared with one that nothing disturbs."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks import campaign
from benchmarks.record import Finished

COPIES = """
import shutil, sys, time
from pathlib import Path
Path(sys.argv[3]).mkdir(exist_ok=True)
time.sleep(0.3)
shutil.copytree({results!r}, sys.argv[3], dirs_exist_ok=True)
if {plants} and "undisturbed" not in sys.argv[3]:
    next(Path(sys.argv[3], "cells").glob("*.json")).unlink()
"""


def run_campaign(out: Path, kills: int, pairs: int) -> Result:
    given = ["--kills", str(kills), "--pairs", str(pairs), "--out", str(out)]
    return CliRunner().invoke(campaign.main, given)


@pytest.mark.slow
def test_two_kills_and_a_pair_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    result = run_campaign(tmp_path, kills=2, pairs=1)
    assert result.exit_code == 0, result.output
    figures = [line.split()[-3:] for line in result.stdout.splitlines()[2:]]
    assert [(kills, differences) for kills, _, differences in figures] == [
        *(("1", "0"), ("1", "0"), ("0", "0")),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("plants", [False, True])
def test_a_planted_difference_is_noticed(
    plants: bool, tmp_path: Path, add_cell: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs stand for those of the suite that copy made-up results, all but the first with a gap."""
    name = add_cell("eap", {}, [20, 10], [0.1, 0.2]).name
    script = tmp_path / "copies.py"
    script.write_text(COPIES.format(results=str(tmp_path / "results"), plants=plants))
    monkeypatch.setattr(campaign, "COMMAND", [sys.executable, str(script)])
    monkeypatch.setattr(campaign, "RUNS_AT_ONCE", 1)
    result = run_campaign(tmp_path / "out", kills=2, pairs=1)
    assert result.exit_code == int(plants), result.output
    assert [line.split()[-3] for line in result.stdout.splitlines()[2:]] == ["1", "1", "0"]
    assert (f"cells/{name}.json is missing" in result.stderr) == plants
    assert (tmp_path / "out" / "001").exists() == plants
