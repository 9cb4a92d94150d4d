"""The reference values hold: what `edgewise check` does."""

import pytest

from benchmarks.check.check import SUITE, check
from benchmarks.grid.suite import load_suite


@pytest.mark.regression
@pytest.mark.slow
def test_every_reference_value_holds(unchecked: None) -> None:
    differences = check(load_suite(SUITE).cells)
    assert not differences, "\n".join(map(str, differences))
