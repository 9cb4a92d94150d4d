"""The results of a run that nothing disturbs."""

from pathlib import Path

import pytest

from benchmarks.grid.suite import load_suite
from tests.benchmarks.run.small_runs import run_small
from tests.benchmarks.samples import SMALL_SUITE


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small suite and its finished results."""
    folder = tmp_path_factory.mktemp("undisturbed")
    suite = folder / "small.toml"
    suite.write_text(SMALL_SUITE)
    run_small(load_suite(str(suite)).cells, folder / "results")
    return suite, folder / "results"
