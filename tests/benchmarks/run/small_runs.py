"""Runs of a small suite."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.grid.cell import Cell
from benchmarks.run.environment import default_device
from benchmarks.run.runner import Options, run


def run_small(cells: Sequence[Cell], folder: Path, jobs: int = 1) -> dict[str, str]:
    outcomes = run(cells, folder, Options(default_device(), jobs, checkpoint_seconds=0.0))
    return {outcome.name: outcome.status for outcome in outcomes}
