"""Run cells: what is finished is skipped, what fails is recorded, what was killed goes on.

Cells run bench by bench, then the bench's searches; when they are done, its rankings are cut to the
sizes of its circuits. Circuits of two tasks are crossed at the end. With several jobs, each cell
and each search has a process of its own; its seconds are then not those of a quiet machine, and its
record says how many jobs there were.
"""

import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import environment
from benchmarks.cell import Bench, Cell
from benchmarks.crossing import Crossing, cross
from benchmarks.execute import execute
from benchmarks.loading import Loader, identify
from benchmarks.matching import match
from benchmarks.search import Search, search
from benchmarks.store import FAILED, FINISHED, SCHEMA, UNSUPPORTED, Record, Store
from edgewise.discovery import Unsupported
from edgewise.progress import track

SKIPPED = "skipped"

Item = Cell | Search | Bench | Crossing
"""What there is to do; a bench stands for its matching stage."""


@dataclass(frozen=True)
class Options:
    """How to run: none of it changes a result."""

    device: torch.device
    jobs: int = 1
    checkpoint_seconds: float = 60.0


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
    *,
    searches: Sequence[Search] = (),
    crossings: Sequence[Crossing] = (),
) -> list[Outcome]:
    """Run all that is not finished in `folder`, then match rankings with circuits.

    Gives what became of every cell, search, bench's matching stage and crossing; skipped cells come
    first. Raises ValueError if the folder cannot be used or a model cannot be loaded, before
    any cell runs.
    """
    store, loader = Store(folder), Loader(options.device)
    store.prepare()
    known = identify([*(c.bench for c in cells), *(s.cell.bench for s in searches)], loader)

    def identified(cell: Cell) -> Cell:
        return replace(cell, bench=known[cell.bench])

    cells = list(map(identified, cells))
    searches = [replace(search, cell=identified(search.cell)) for search in searches]
    done = {cell.name for cell in cells if store.is_done(cell.name)}
    work: list[Item] = []
    for bench in known.values():
        work += [cell for cell in cells if cell.bench == bench and cell.name not in done]
        work += [search for search in searches if search.cell.bench == bench]
        work.append(bench)
    work += [Crossing(identified(pair.first), identified(pair.second)) for pair in crossings]
    skipped = [Outcome(cell.name, SKIPPED) for cell in cells if cell.name in done]
    if options.jobs > 1:
        return skipped + _in_processes(work, store, options)
    return skipped + [_do(item, store, loader, options) for item in track(work, "cells")]


def _in_processes(work: Iterable[Item], store: Store, options: Options) -> list[Outcome]:
    """Every item in a process of its own, `jobs` at a time; cells and searches come first."""
    work = list(work)
    outcomes: list[Outcome] = []
    for kinds in ((Cell, Search), (Bench, Crossing)):
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            waiting = {
                pool.submit(_process, item, store.folder, options): item
                for item in work
                if isinstance(item, kinds)
            }
            for future in track(as_completed(waiting), "cells", total=len(waiting)):
                outcomes.append(future.result())
    return outcomes


def _process(item: Item, folder: Path, options: Options) -> Outcome:
    torch.set_num_threads(max(1, torch.get_num_threads() // options.jobs))
    return _do(item, Store(folder), Loader(options.device), options)


def _do(item: Item, store: Store, loader: Loader, options: Options) -> Outcome:
    """Run, search, match or cross; an error ends this item alone."""
    name = item.name if isinstance(item, Cell) else item.label
    try:
        if isinstance(item, Cell):
            return _run_cell(item, store, loader, options)
        if isinstance(item, Search):
            search(item, store, lambda trial: _do(trial, store, loader, options).message)
        elif isinstance(item, Crossing):
            cross(item, store, loader)
        else:
            name += f", seed {item.seed}: matching"
            match(item, store, loader)
        return Outcome(name, FINISHED)
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(item, Cell):
            return Outcome(name, FAILED, message)
        status = UNSUPPORTED if isinstance(error, Unsupported) else FAILED
        record: Record = {
            "schema": SCHEMA,
            "name": name,
            "status": status,
            "definition": item.definition(),
            "error": {"message": message, "traceback": traceback.format_exc()},
            "environment": environment.describe(options.device),
        }
        store.write(record)
        return Outcome(name, status, message)


def _run_cell(cell: Cell, store: Store, loader: Loader, options: Options) -> Outcome:
    checkpoint = store.checkpoint(cell.name)
    record, discovery, prompts = execute(
        cell,
        loader.model(cell.bench),
        loader.task(cell.bench),
        checkpoint,
        every_seconds=options.checkpoint_seconds,
    )
    record["environment"]["jobs"] = options.jobs
    store.write(record, discovery, prompts)
    checkpoint.unlink(missing_ok=True)
    return Outcome(cell.name, FINISHED)
