"""Run cells: what is finished is skipped, what fails is recorded, what was killed goes on.

Where a stored cell differs only in settings that its method applies after training, such as Edge
Pruning's `cut`, its training is used and its cost stated. Cells run bench by bench, then the
bench's searches; when they are done, its rankings are cut to the sizes of its circuits. Circuits of
two tasks are crossed at the end. With several jobs, each cell and each search has a worker of its
own, a process here or a slot of a Ray cluster; its seconds are then not those of a quiet machine,
and its record says how many jobs there were. Under torchrun all ranks share each discovery, which
is always run; the first alone evaluates, matches and writes, and an error on any of them ends the
run.
"""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.grid.cell import Bench, Cell
from benchmarks.grid.crossing import Crossing
from benchmarks.grid.search import Search
from benchmarks.run import environment
from benchmarks.run.backends import Backend, Processes
from benchmarks.run.crossing import cross
from benchmarks.run.execute import discover, execute
from benchmarks.run.loading import Loader, identify
from benchmarks.run.matching import match
from benchmarks.run.search import search
from benchmarks.store import FAILED, FINISHED, SCHEMA, UNSUPPORTED, Discovery, Record, Store
from edgewise import parallel
from edgewise.discovery import Unsupported
from edgewise.precision import check_products
from edgewise.progress import track
from methods import METHODS

SKIPPED = "skipped"

Item = Cell | Search | Bench | Crossing
"""What there is to do; a bench stands for its matching stage."""


@dataclass(frozen=True)
class Options:
    """How to run: none of it changes a result."""

    device: torch.device
    jobs: int = 1
    checkpoint_seconds: float = 60.0
    device_map: str | None = None
    """Of models larger than one device, as Hugging Face knows it; a task's own model is not."""
    recompute: bool = False
    """Whether backward passes run each block again instead of keeping what is inside it."""
    cuda_graphs: bool = False
    """Whether steps are recorded and replayed, where one GPU computes all of them."""

    @property
    def loader(self) -> Loader:
        return Loader(
            self.device, self.device_map, recompute=self.recompute, cuda_graphs=self.cuda_graphs
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    name: str
    status: str
    message: str = ""


def run(
    cells: Sequence[Cell],
    folder: Path,
    options: Options,
    backend: Backend | None = None,
    *,
    searches: Sequence[Search] = (),
    crossings: Sequence[Crossing] = (),
) -> list[Outcome]:
    """Run all that is not finished in `folder`, then match rankings with circuits.

    Cells run in this process, one after the other, unless there is a backend or more than one job.
    Gives what became of every cell, search, bench's matching stage and crossing; skipped cells come
    first. Raises ValueError if the folder cannot be used or a model cannot be loaded, before
    any cell runs.
    """
    if backend is None and options.jobs > 1:
        backend = Processes(options.jobs)
    if parallel.size() > 1:
        if backend is not None:
            raise ValueError(f"{backend.jobs} jobs under torchrun; expected 1: it shares cells out")
        if searches:
            raise ValueError("searches under torchrun; expected a run in one process")
    benches = [*(c.bench for c in cells), *(s.cell.bench for s in searches)]
    for dtype in {bench.dtype for bench in benches}:
        check_products(dtype, options.device)
    # Where others run the cells, the device may be theirs alone.
    store, loader = Store(folder), Loader(torch.device("cpu")) if backend else options.loader
    if parallel.rank() == 0:
        store.prepare()
    known = identify(benches, loader)

    def identified(cell: Cell) -> Cell:
        return replace(cell, bench=known[cell.bench])

    cells = list(map(identified, cells))
    searches = [replace(search, cell=identified(search.cell)) for search in searches]
    done = parallel.from_first(lambda: {cell.name for cell in cells if store.is_done(cell.name)})
    work: list[Item] = []
    for bench in known.values():
        work += [cell for cell in cells if cell.bench == bench and cell.name not in done]
        work += [search for search in searches if search.cell.bench == bench]
        work.append(bench)
    work += [Crossing(identified(pair.first), identified(pair.second)) for pair in crossings]
    if parallel.rank() > 0:
        work = [item for item in work if isinstance(item, Cell)]
    skipped = [Outcome(cell.name, SKIPPED) for cell in cells if cell.name in done]
    if backend is not None:
        return skipped + _spread(work, backend, store, options)
    return skipped + [_do(item, store, loader, options) for item in track(work, "cells")]


def _spread(
    work: Sequence[Item], backend: Backend, store: Store, options: Options
) -> list[Outcome]:
    """Every item in a worker of its own; cells and searches come first."""
    options = replace(options, jobs=backend.jobs)
    outcomes: list[Outcome] = []
    for kinds in ((Cell, Search), (Bench, Crossing)):
        items = [item for item in work if isinstance(item, kinds)]
        ended = backend.map(partial(_in_worker, store.folder.resolve(), options), items)
        for item, result in track(ended, "cells", total=len(items)):
            if isinstance(result, Exception):
                result = _failed(item, result, store, options)
            outcomes.append(result)
    return outcomes


def _in_worker(folder: Path, options: Options, item: Item) -> Outcome:
    return _do(item, Store(folder), options.loader, options)


def _do(item: Item, store: Store, loader: Loader, options: Options) -> Outcome:
    """Run, search, match or cross; an error ends this item alone."""
    try:
        if isinstance(item, Cell):
            return _run_cell(item, store, loader, options)
        if isinstance(item, Search):
            search(item, store, lambda trial: _do(trial, store, loader, options).message)
        elif isinstance(item, Crossing):
            cross(item, store, loader)
        else:
            match(item, store, loader)
        return Outcome(_label(item), FINISHED)
    except Exception as error:
        outcome = _failed(item, error, store, options)
        if parallel.size() > 1 and outcome.status == FAILED:
            raise  # the other ranks may be waiting for this one
        return outcome


def _failed(item: Item, error: Exception, store: Store, options: Options) -> Outcome:
    message = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(item, Cell):
        return Outcome(_label(item), FAILED, message)
    record: Record = {
        "schema": SCHEMA,
        "name": item.name,
        "status": UNSUPPORTED if isinstance(error, Unsupported) else FAILED,
        "definition": item.definition(),
        "error": {"message": message, "traceback": "".join(traceback.format_exception(error))},
        "environment": environment.describe(options.device),
    }
    if parallel.rank() == 0:
        store.write(record)
    return Outcome(item.name, record["status"], message)


def _label(item: Item) -> str:
    """What an outcome calls it."""
    if isinstance(item, Cell):
        return item.name
    return f"{item.label}, seed {item.seed}: matching" if isinstance(item, Bench) else item.label


def _run_cell(cell: Cell, store: Store, loader: Loader, options: Options) -> Outcome:
    model, task = loader.model(cell.bench), loader.task(cell.bench)
    checkpoint, every = store.checkpoint(cell.name), options.checkpoint_seconds
    if parallel.rank() > 0:
        discover(cell, model, task, checkpoint, every_seconds=every)
        return Outcome(cell.name, FINISHED)
    trained = _trained(cell, store) if parallel.size() == 1 else None
    record, discovery, prompts = execute(
        cell, model, task, checkpoint, every_seconds=every, trained=trained
    )
    record["environment"].setdefault("jobs", options.jobs)
    store.write(record, discovery, prompts)
    checkpoint.unlink(missing_ok=True)
    return Outcome(cell.name, FINISHED)


def _trained(cell: Cell, store: Store) -> tuple[Record, Discovery] | None:
    """A finished cell with the same training, and what it found."""
    after = METHODS[cell.method].after_training
    if not after:
        return None

    def training(definition: Mapping[str, Any]) -> dict[str, Any]:
        settings = definition["settings"].items()
        before = {name: value for name, value in settings if name not in after}
        return {**definition, "settings": before, "sparsities": None}

    wanted = training(cell.definition())
    for record in store.records():
        if record["status"] == FINISHED and training(record["definition"]) == wanted:
            return record, store.discovery(record["name"])
    return None
