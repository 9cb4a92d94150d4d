"""Stored cells of any results folder, run again and compared with what their records say."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.check.check import (
    DEVICE,
    Difference,
    compare_discovery,
    compare_evaluation,
    discover_anew,
)
from benchmarks.grid.cell import Bench, Cell, ModelOptions
from benchmarks.record import Finished
from benchmarks.run.execute import evaluate_discovery
from benchmarks.run.loading import Loader, identify
from benchmarks.store import Store, first_of
from edgewise.progress import track
from edgewise.task import Sizes
from edgewise.wrapper import InnerMethod
from methods import METHODS
from tasks import find_task

_EXACT_DTYPES = ("float32", "float64")


def check_again(folder: Path, n_cells: int) -> tuple[int, list[Difference]]:
    """Run up to so many cells again on the CPU; how many were run, and the differences.

    Every method in turn gives its cheapest cell that has not been taken. The stored circuit or
    ranking of each is evaluated again, and every method but those that learn masks, whose long
    trainings enlarge differences in rounding, is run again.
    Left out are cells of earlier versions of a method or of a task, cells of methods and prompts of
    the user's own, of which the record does not keep the file's place, and cells in less than
    float32, whose numbers change with the order of sums.
    Raises ValueError if no cell is left, or a cell's model is not the one that it was run on.
    """
    store, loader = Store(folder), Loader(DEVICE)
    chosen = _cheapest_of_each(filter(_is_current, store.finished()))[:n_cells]
    if not chosen:
        raise ValueError(
            f"no cell in {folder} that the methods and tasks of today would give again"
        )
    differences: list[Difference] = []
    for record in track(chosen, "cells again", total=len(chosen)):
        cell = _cell_of(record, loader)
        if cell.name != record.name:
            raise ValueError(
                f"cell {record.name}: model {record.model} or its tokenizer is not the one that "
                "the cell was run on"
            )
        model, task = loader.model(cell.bench), loader.task(cell.bench)
        stored = store.discovery(record.name)
        rows, _ = evaluate_discovery(cell, model, task, stored)
        differences += compare_evaluation(record, rows, " of the stored circuit")
        if not _trains_masks(record):
            found = discover_anew(cell, model, task)
            differences += compare_discovery(record, stored, found, first_of(found).meta)
    return len(chosen), differences


def _is_current(record: Finished) -> bool:
    """Whether the methods and the task of today would give the same numbers."""
    definition = record.definition
    methods = [definition, *(definition.inner or ())]
    own = [definition.data, *(one.code for one in methods)]
    if definition.dtype not in _EXACT_DTYPES or any(file is not None for file in own):
        return False
    known = {name: kind.version for name, kind in METHODS.items()}
    if any(known.get(one.method) != one.method_version for one in methods):
        return False
    return find_task(definition.task).version == definition.task_version


def _trains_masks(record: Finished) -> bool:
    """Whether the method or one inside it does."""
    methods = [record.definition, *(record.definition.inner or ())]
    return any(METHODS[one.method].family == "masks" for one in methods)


def _cheapest_of_each(records: Iterable[Finished]) -> list[Finished]:
    """The cheapest cell of each method, then the second of each, and so on."""
    taken: Counter[str] = Counter()
    turns: list[tuple[int, float, Finished]] = []
    for record in sorted(records, key=lambda record: record.seconds):
        method = record.definition.method
        turns.append((taken[method], record.seconds, record))
        taken[method] += 1
    return [record for *_, record in sorted(turns, key=lambda turn: turn[:2])]


def _cell_of(record: Finished, loader: Loader) -> Cell:
    """The cell as a suite would make it, on its identified bench."""
    definition = record.definition
    options = definition.model
    bench = Bench(
        definition.task,
        definition.task_version,
        definition.seed,
        sizes=Sizes(**definition.sizes.as_json()),
        model=options and ModelOptions(record.model, **options.as_json()),
        ablation=definition.ablation,
        dtype=definition.dtype,
    )
    return Cell(
        definition.method,
        definition.method_version,
        definition.settings,
        identify([bench], loader)[bench],
        tuple(definition.sparsities),
        inner=tuple(InnerMethod(**one.as_json()) for one in definition.inner or ()),
    )
