"""Run cells: what is finished is skipped, what fails is recorded, what was killed goes on.

Where a stored cell differs only in settings that its method applies after training, such as Edge
Pruning's `cut`, its training is used and its cost stated. Cells run bench by bench, then the
bench's searches; when they are done, its rankings are cut to the sizes of its circuits. Circuits of
two tasks are crossed at the end. With several jobs, workers take cell after cell and search after
search, processes here or slots of a Ray cluster; a cell's seconds are then not those of a quiet
machine, and its record says how many jobs there were. Under torchrun all ranks share each
discovery, which is always run; the first alone evaluates, matches and writes, and an error on any
of them ends the run.
"""

import logging
from collections.abc import Sequence
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
from benchmarks.run.items import (
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
from benchmarks.run.loading import Loader, identify
from benchmarks.store import Store
from edgewise import parallel
from edgewise.allocator import release_freed_memory
from edgewise.precision import check_products
from edgewise.progress import track

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
    first. Raises ValueError if the folder cannot be used or a model cannot be loaded, before
    any cell runs.
    """
    if backend is None and options.jobs > 1:
        threads = max(1, torch.get_num_threads() // options.jobs)
        with Processes(options.jobs, partial(_prepare_worker, threads)) as own:
            return run(cells, folder, options, own, searches=searches, crossings=crossings)
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
    for damaged in store.damaged() if parallel.rank() == 0 else ():
        _log.warning("damaged: %s; what this run needs of it is derived again", damaged.problem)
    known = identify(benches, loader)

    def identified(cell: Cell) -> Cell:
        return replace(cell, bench=known[cell.bench])

    cells = list(map(identified, cells))
    searches = [replace(search, cell=identified(search.cell)) for search in searches]
    done = parallel.from_first(lambda: {cell.name for cell in cells if store.is_done(cell.name)})
    work: list[Item] = []
    for bench in known.values():
        work += cell_items(c for c in cells if c.bench == bench and c.name not in done)
        work += [SearchItem(search) for search in searches if search.cell.bench == bench]
        work.append(MatchingItem(bench))
    for pair in crossings:
        work.append(CrossingItem(Crossing(identified(pair.first), identified(pair.second))))
    if parallel.rank() > 0:
        work = [item for item in work if item.stage < COMPARISON]
    skipped = [Outcome(cell.name, SKIPPED) for cell in cells if cell.name in done]
    place = Workplace(store, loader, options)
    if backend is not None:
        return skipped + _spread(work, backend, place)
    return skipped + [attempt(item, place) for item in track(work, "cells")]


def _spread(work: Sequence[Item], backend: Backend, place: Workplace) -> list[Outcome]:
    """Stage by stage, every item in a worker."""
    options = replace(place.options, jobs=backend.jobs)
    folder = place.store.folder.resolve()
    outcomes: list[Outcome] = []
    for stage in sorted({item.stage for item in work}):
        items = [item for item in work if item.stage == stage]
        ended = backend.map(partial(_in_worker, folder, options), items)
        for item, result in track(ended, "cells", total=len(items)):
            if isinstance(result, Exception):
                result = failure(item, result, place)
            outcomes.append(result)
    return outcomes


def _prepare_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    # tqdm's default is a semaphore of the system: reported as leaked where a worker is killed.
    tqdm.set_lock(RLock())


def _in_worker(folder: Path, options: Options, item: Item) -> Outcome:
    outcome = attempt(item, Workplace(Store(folder), _kept_loader(options), options))
    release_freed_memory()  # the other workers may need it
    return outcome


@lru_cache(maxsize=1)
def _kept_loader(options: Options) -> Loader:
    """The worker's own, which keeps what its last item has loaded."""
    return options.loader
