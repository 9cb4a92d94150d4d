"""Runs of a small suite, and what of their results is the same in every run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.grid.cell import Cell
from benchmarks.run.environment import default_device
from benchmarks.run.runner import Options, run
from benchmarks.store import Store

COMMAND = [sys.executable, "-c", "from benchmarks.cli import main; main()", "run"]
_VARYING = ("seconds", "peak_bytes", "peak_memory_source", "environment")


def run_small(cells: Sequence[Cell], folder: Path, jobs: int = 1) -> dict[str, str]:
    outcomes = run(cells, folder, Options(default_device(), jobs, checkpoint_seconds=0.0))
    return {outcome.name: outcome.status for outcome in outcomes}


def steady(folder: Path) -> dict[str, dict[str, Any]]:
    """All records without what differs from run to run."""
    return {
        record.name: {key: value for key, value in record.as_json().items() if key not in _VARYING}
        for record in Store(folder).finished()
    }


def matched(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in (folder / "matched").glob("*.json")}
