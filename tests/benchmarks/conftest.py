"""Made-up results."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks.record import Finished
from benchmarks.store import Store
from tests.benchmarks.samples import write_cell


@pytest.fixture
def add_cell(tmp_path: Path) -> Callable[..., Finished]:
    """Writes a made-up finished cell into tmp_path/results; `kl` is per size, and per prompt."""
    store = Store(tmp_path / "results")
    store.prepare()
    return partial(write_cell, store)
