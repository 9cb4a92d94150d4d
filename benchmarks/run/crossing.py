"""Circuits of two tasks are evaluated on the prompts of both.

Beside them stand the full model and the edges that the two circuits share.
"""

from benchmarks.grid.crossing import FULL, SHARED, Crossing
from benchmarks.record import CrossedRecord, CrossedRow
from benchmarks.run.execute import evaluate_circuits
from benchmarks.run.loading import Loader
from benchmarks.store import Store
from edgewise import Circuit


def cross(crossing: Crossing, store: Store, loader: Loader) -> None:
    """Evaluate and store. Nothing is done where that is done, and for rankings.

    Raises RuntimeError where a cell has no result.
    """
    cells = (crossing.first, crossing.second)
    if store.has_crossed(crossing.name):
        return
    for cell in cells:
        if not store.is_finished(cell.name):
            raise RuntimeError(f"cell {cell.name} has no result")
    first, second = (store.discovery(cell.name) for cell in cells)
    if not isinstance(first, Circuit) or not isinstance(second, Circuit):
        return
    everything = Circuit(first.graph.legal, first.graph)
    circuits = {
        FULL: everything,
        **{cell.bench.label: found for cell, found in zip(cells, (first, second), strict=True)},
        SHARED: Circuit(first.mask & second.mask, first.graph),
    }
    rows: list[CrossedRow] = []
    for cell in cells:
        model, task = loader.model(cell.bench), loader.task(cell.bench)
        found, _ = evaluate_circuits(model, task, list(circuits.values()))
        for circuit, row in zip(circuits, found, strict=True):
            fields = {"circuit": circuit, "prompts": cell.bench.label, **row.as_json()}
            rows.append(CrossedRow.model_validate(fields))
    names = [cell.name for cell in cells]
    store.write_crossed(CrossedRecord(name=crossing.name, cells=names, rows=rows))
