"""Run cells: what is finished is skipped, what fails is recorded, what was killed goes on.

Cells run bench by bench; when a bench's cells are done, its rankings are cut to the sizes of its
circuits. With several jobs, each cell has a worker of its own, a process here or a slot of a Ray
cluster; its seconds are then not those of a quiet machine, and its record says how many jobs there
were. Under torchrun all ranks share each discovery; the first alone evaluates, matches and writes,
and an error on any of them ends the run.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import environment
from benchmarks.backends import Backend, Processes
from benchmarks.cell import Bench, Cell
from benchmarks.execute import discover, execute
from benchmarks.loading import Loader, identify
from benchmarks.matching import match
from benchmarks.store import FAILED, FINISHED, SCHEMA, UNSUPPORTED, Record, Store
from edgewise import parallel
from edgewise.discovery import Unsupported
from edgewise.progress import track

SKIPPED = "skipped"


@dataclass(frozen=True)
class Options:
    """How to run: none of it changes a result."""

    device: torch.device
    jobs: int = 1
    checkpoint_seconds: float = 60.0
    device_map: str | None = None
    """Of models larger than one device, as Hugging Face knows it; a task's own model is not."""

    @property
    def loader(self) -> Loader:
        return Loader(self.device, self.device_map)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell, or of a bench's matching stage."""

    name: str
    status: str
    message: str = ""


def run(
    cells: Sequence[Cell], folder: Path, options: Options, backend: Backend | None = None
) -> list[Outcome]:
    """Run all cells that are not finished in `folder`, then match rankings with circuits.

    They run in this process, one after the other, unless there is a backend or more than one job.
    Gives what became of every cell and of every bench's matching stage; skipped cells come first.
    Raises ValueError if the folder cannot be used or a model cannot be loaded, before any cell
    runs.
    """
    if backend is None and options.jobs > 1:
        backend = Processes(options.jobs)
    if backend is not None and parallel.size() > 1:
        raise ValueError(f"{backend.jobs} jobs under torchrun; expected 1: it shares each cell out")
    # Where others run the cells, the device may be theirs alone.
    store, loader = Store(folder), Loader(torch.device("cpu")) if backend else options.loader
    if parallel.rank() == 0:
        store.prepare()
    cells = identify(cells, loader)
    done = parallel.from_first(lambda: {cell.name for cell in cells if store.is_done(cell.name)})
    work: list[Cell | Bench] = []
    for bench in dict.fromkeys(cell.bench for cell in cells):
        work += [cell for cell in cells if cell.bench == bench and cell.name not in done]
        if parallel.rank() == 0:
            work.append(bench)
    skipped = [Outcome(cell.name, SKIPPED) for cell in cells if cell.name in done]
    if backend is not None:
        return skipped + _spread(work, backend, store, options)
    return skipped + [_do(item, store, loader, options) for item in track(work, "cells")]


def _spread(
    work: Sequence[Cell | Bench], backend: Backend, store: Store, options: Options
) -> list[Outcome]:
    """Every cell in a worker of its own; then every bench's matching stage."""
    options = replace(options, jobs=backend.jobs)
    outcomes: list[Outcome] = []
    for kind in (Cell, Bench):
        items = [item for item in work if isinstance(item, kind)]
        ended = backend.map(partial(_in_worker, store.folder.resolve(), options), items)
        for item, result in track(ended, "cells", total=len(items)):
            if isinstance(result, Exception):
                result = _failed(item, result, store, options)
            outcomes.append(result)
    return outcomes


def _in_worker(folder: Path, options: Options, item: Cell | Bench) -> Outcome:
    return _do(item, Store(folder), options.loader, options)


def _do(item: Cell | Bench, store: Store, loader: Loader, options: Options) -> Outcome:
    """Run a cell or match a bench; an error ends this item alone."""
    try:
        if isinstance(item, Cell):
            return _run_cell(item, store, loader, options)
        match(item, store, loader)
        return Outcome(f"{item.label}, seed {item.seed}: matching", FINISHED)
    except Exception as error:
        outcome = _failed(item, error, store, options)
        if parallel.size() > 1 and outcome.status == FAILED:
            raise  # the other ranks may be waiting for this one
        return outcome


def _failed(item: Cell | Bench, error: Exception, store: Store, options: Options) -> Outcome:
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(item, Bench):
        return Outcome(f"{item.label}, seed {item.seed}: matching", FAILED, message)
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


def _run_cell(cell: Cell, store: Store, loader: Loader, options: Options) -> Outcome:
    model, task = loader.model(cell.bench), loader.task(cell.bench)
    checkpoint, every = store.checkpoint(cell.name), options.checkpoint_seconds
    if parallel.rank() > 0:
        discover(cell, model, task, checkpoint, every_seconds=every)
        return Outcome(cell.name, FINISHED)
    record, discovery, prompts = execute(cell, model, task, checkpoint, every_seconds=every)
    record["environment"]["jobs"] = options.jobs
    store.write(record, discovery, prompts)
    checkpoint.unlink(missing_ok=True)
    return Outcome(cell.name, FINISHED)
