"""Run a search's trials, each an ordinary cell, and store which is nearest."""

from collections.abc import Callable

from benchmarks.grid.cell import Cell
from benchmarks.grid.search import Search
from benchmarks.record import Finished, SearchDefinition, SearchRecord, Trial
from benchmarks.store import Store


def search(sought: Search, store: Store, run_cell: Callable[[Cell], str]) -> SearchRecord:
    """Run the trials that are not in the store, and store what was tried and what is nearest.

    `run_cell` gives a cell's error, or nothing. Raises RuntimeError if a trial has no result.
    """
    trials: list[Trial] = []
    while (value := sought.next_value(trials)) is not None:
        cell = sought.trial(value)
        error = "" if store.is_done(cell.name) else run_cell(cell)
        record = store.record(cell.name)
        if not isinstance(record, Finished):
            raise RuntimeError(f"{sought.setting}={value:g}: {error or 'no result'}")
        if record.kind != "circuit":
            raise RuntimeError(f"{cell.method} ranks edges: it is cut to size, not searched")
        trials.append(Trial(value=value, sparsity=record.rows[0].sparsity, cell=cell.name))
    found = SearchRecord(
        name=sought.name,
        definition=SearchDefinition.model_validate(sought.definition()),
        trials=trials,
        found=sought.nearest(trials).cell,
        within_tolerance=sought.is_found(trials),
    )
    store.write_search(found)
    return found
