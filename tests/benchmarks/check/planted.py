"""What the check of the reference cells says of a bug that is planted in the running code.

The self-check of a loaded model, which sees some of these bugs first, is left out. That the check
says nothing where no bug is planted, `test_regression.py` tests for all cells.
"""

from unittest.mock import patch

from benchmarks.check.check import SUITE, Difference, check
from benchmarks.grid.suite import load_suite


def differences(method: str, task: str) -> list[Difference]:
    """The check of one method's reference cells on one task."""
    cells = [cell for cell in load_suite(SUITE, only=method).cells if cell.bench.task == task]
    assert cells
    with patch("edgewise.transformer.check_forward"):
        return check(cells)


def metrics(found: list[Difference], task: str = "ioi-t1 (interchange ablation)") -> set[str]:
    return {difference.metric for difference in found if difference.task == task}


def scores_of(names: set[str]) -> set[str]:
    return {name.partition(" of ")[0] for name in names if "->" in name}


def of_stored_circuits(names: set[str], metric: str) -> set[str]:
    return {name for name in names if name.startswith(metric) and "of the stored" in name}
