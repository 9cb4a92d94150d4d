"""Run cells: what is finished is skipped, what fails is recorded, what was killed goes on.

Where a stored cell differs only in settings that its method applies after training, such as Edge
Pruning's `cut`, its training is used and its cost stated. Cells run bench by bench, then the
bench's searches; when they are done, its rankings are cut to the sizes of its circuits. Circuits of
two tasks are crossed at the end. With several jobs, workers take cell after cell and search after
search, processes here or slots of a Ray cluster; a cell's seconds are then not those of a quiet
machine, and its record says how many jobs there were. Under torchrun all ranks share each
discovery, and no stored training is used. Only the first rank evaluates, matches and writes, and a
failure on any rank ends the run. Several runs may share a folder: they share out its cells
(benchmarks/run/claims.py).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from threading import RLock

import torch
from tqdm import tqdm

from benchmarks.grid.cell import Cell
from benchmarks.grid.crossing import Crossing
from benchmarks.grid.search import Search
from benchmarks.run.backends import Backend, Processes
from benchmarks.run.claims import remove_abandoned
from benchmarks.run.items import (
    CLAIMED,
    COMPARISON,
    CrossingItem,
    Item,
    MatchingItem,
    Options,
    Outcome,
    SearchItem,
    Workplace,
    attempt,
    cell_items,
    failure,
)
from benchmarks.run.loading import Loader
from benchmarks.run.plan import forecast, plan
from benchmarks.store import Store
from edgewise import parallel
from edgewise.allocator import release_freed_memory
from edgewise.precision import check_products
from edgewise.progress import note, track

SKIPPED = "skipped"

_log = logging.getLogger(__name__)


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
    first. Raises ValueError if the folder cannot be used, a model cannot be loaded or a task's
    prompts cannot be made for its model, before any cell runs.
    """
    if backend is None and options.jobs > 1:
        threads = max(1, torch.get_num_threads() // options.jobs)
        with Processes(options.jobs, partial(_prepare_worker, threads)) as own:
            return run(cells, folder, options, own, searches=searches, crossings=crossings)
    if parallel.size() > 1:
        if backend is not None:
            raise ValueError(
                f"{backend.jobs} jobs under torchrun; expected 1: its processes share each cell"
            )
        if searches:
            raise ValueError("searches under torchrun; expected a run in one process")
    check_dtypes(cells, searches, options.device)
    # Where others run the cells, the device may be theirs alone.
    store, loader = Store(folder), Loader(torch.device("cpu")) if backend else options.loader
    if parallel.rank() == 0:
        store.prepare()
        remove_abandoned(store.claims)
    for damaged in store.damaged() if parallel.rank() == 0 else ():
        _log.warning("damaged: %s; what this run needs of it is derived again", damaged.problem)
    planned = plan(cells, searches, crossings, store, loader)
    work: list[Item] = []
    for bench in planned.benches:
        work += cell_items(c for c in planned.to_run if c.bench == bench)
        work += [SearchItem(search) for search in planned.searches if search.cell.bench == bench]
        work.append(MatchingItem(bench))
    work += [CrossingItem(pair) for pair in planned.crossings]
    skipped = [Outcome(c.name, SKIPPED) for c in planned.cells if c.name in planned.done]
    place = Workplace(store, loader, options)
    ended = _one_by_one(work, place) if backend is None else _spread(work, backend, place)
    return skipped + list(track(ended, "cells", total=len(work)))


def dry_run(
    cells: Sequence[Cell],
    folder: Path,
    options: Options,
    *,
    searches: Sequence[Search] = (),
    crossings: Sequence[Crossing] = (),
) -> str:
    """What `run` would do, and what of it would fail, without a file written.

    Raises ValueError as `run` does.
    """
    check_dtypes(cells, searches, options.device)
    loader = options.loader
    return forecast(plan(cells, searches, crossings, Store(folder), loader), loader)


def check_dtypes(cells: Sequence[Cell], searches: Sequence[Search], device: torch.device) -> None:
    """Raises ValueError for a dtype in which the device does not compute."""
    benches = [*(c.bench for c in cells), *(s.cell.bench for s in searches)]
    for dtype in {bench.dtype for bench in benches}:
        check_products(dtype, device)


def _one_by_one(work: Sequence[Item], place: Workplace) -> Iterator[Outcome]:
    """In this process.

    What another run is doing comes last, and what compares circuits after it.
    """
    postponed: list[Item] = []
    for item in work:
        if postponed and item.stage == COMPARISON:
            postponed.append(item)
            continue
        note(partial(_said, item))
        outcome = attempt(item, place, wait=False)
        if outcome.status == CLAIMED:
            postponed.append(item)
        else:
            yield outcome
    for item in postponed:
        note(partial(_said, item))
        yield attempt(item, place, wait=True)


def _said(item: Item) -> dict[str, float | str]:
    return {"now": item.label}


def _spread(work: Sequence[Item], backend: Backend, place: Workplace) -> Iterator[Outcome]:
    """Stage by stage, every item in a worker; what another run is doing comes last in its stage."""
    options = replace(place.options, jobs=backend.jobs)
    folder = place.store.folder.resolve()
    for stage in sorted({item.stage for item in work}):
        items = [item for item in work if item.stage == stage]
        for wait in (False, True):
            if not items:
                break
            postponed: list[Item] = []
            in_worker = partial(_in_worker, folder, options, wait)
            for item, result in backend.map(in_worker, items):
                if isinstance(result, Exception):
                    yield failure(item, result, place)
                elif result.status == CLAIMED:
                    postponed.append(item)
                else:
                    yield result
            items = postponed


def _prepare_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    # tqdm's default is a semaphore of the system: reported as leaked where a worker is killed.
    tqdm.set_lock(RLock())


def _in_worker(folder: Path, options: Options, wait: bool, item: Item) -> Outcome:
    outcome = attempt(item, Workplace(Store(folder), _kept_loader(options), options), wait=wait)
    release_freed_memory()  # the other workers may need it
    return outcome


@lru_cache(maxsize=1)
def _kept_loader(options: Options) -> Loader:
    """The worker's own, which keeps what its last item has loaded."""
    return options.loader
