"""Cross-evaluation: the circuits that one method found on two tasks, on the prompts of both.

Beside them stand the full model and the edges that the two circuits share.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmarks.cell import Cell
from benchmarks.execute import evaluate_circuits
from benchmarks.loading import Loader
from benchmarks.store import SCHEMA, Store
from edgewise import Circuit
from edgewise.task import Sizes

FULL, SHARED = "full model", "intersection"


@dataclass(frozen=True, eq=False)
class Crossing:
    """Two cells of one method, model and seed, on different tasks."""

    first: Cell
    second: Cell

    @property
    def label(self) -> str:
        tasks = " and ".join(cell.bench.label for cell in (self.first, self.second))
        return f"{tasks}, seed {self.first.bench.seed}: {self.first.method}, crossed"

    @property
    def name(self) -> str:
        """A file name, the same for the same cells."""
        digest = hashlib.sha256(f"{self.first.name} {self.second.name}".encode()).hexdigest()[:12]
        tasks = "-".join(cell.bench.label.replace(":", "-") for cell in (self.first, self.second))
        return f"{tasks}-{self.first.method}-{digest}"


def crossings_of(cells: Iterable[Cell], first: str, second: str) -> list[Crossing]:
    """The cells of two tasks, pair by pair: of one method and model, in the order of the cells."""
    of_task: dict[str, dict[str, list[Cell]]] = {first: {}, second: {}}
    for cell in cells:
        if cell.bench.task in of_task:
            shared = replace(cell.bench, task="", task_version=0, sizes=Sizes())
            alike = of_task[cell.bench.task]
            alike.setdefault(repr((cell.method, shared)), []).append(cell)
    return [
        Crossing(*pair)
        for key, alike in of_task[first].items()
        for pair in zip(alike, of_task[second].get(key, []), strict=False)
    ]


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
    rows, prompts = [], {}
    for cell in cells:
        model, task = loader.model(cell.bench), loader.task(cell.bench)
        found, values = evaluate_circuits(model, task, list(circuits.values()))
        for circuit, row in zip(circuits, found, strict=True):
            rows.append({"circuit": circuit, "prompts": cell.bench.label, **row})
        prompts |= {f"{cell.bench.label}.{metric}": tensor for metric, tensor in values.items()}
    record = {
        "schema": SCHEMA,
        "name": crossing.name,
        "cells": [cell.name for cell in cells],
        "rows": rows,
    }
    store.write_crossed(record, prompts)
