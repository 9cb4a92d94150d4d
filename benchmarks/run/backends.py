"""Where cells run that do not run in this process: processes of this machine, or a Ray cluster.

Both take pieces of work that know nothing of each other and give them back as they end, each with
its result or with the error that it ended in. A worker that dies costs its own piece alone.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Ended = tuple[Item, Result | Exception]


class Backend(Protocol):
    """Runs a function on every item, several at a time; function and items can be pickled."""

    jobs: int
    """How many at a time."""

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Ended[Item, Result]]: ...


class Processes:
    """Every item in a process of its own on this machine, whose threads they share."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Ended[Item, Result]]:
        with ThreadPoolExecutor(self.jobs) as waiting:
            work = partial(_in_process, function, max(1, torch.get_num_threads() // self.jobs))
            yield from _as_they_end({waiting.submit(work, item): item for item in items})


class Ray:
    """Every item in a slot of a Ray cluster: one GPU, or one CPU."""

    def __init__(self, gpu: bool) -> None:
        import ray

        slots = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0))
        if not slots:
            raise ValueError(f"no {'GPU' if gpu else 'CPU'} in the Ray cluster")
        self.jobs, self._gpu = slots, gpu

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Ended[Item, Result]]:
        import ray

        # A dead worker's item is not tried again: what killed it once would do so again.
        slot = ray.remote(num_cpus=1, num_gpus=int(self._gpu), max_retries=0)(_in_folder)
        folder = Path.cwd()
        futures = {slot.remote(folder, function, item).future(): item for item in items}
        yield from _as_they_end(futures)


@contextmanager
def ray_cluster(address: str | None, *, gpu: bool) -> Iterator[Ray]:
    """Join the Ray cluster at `address` or at RAY_ADDRESS; without either, start one here.

    Raises ValueError if Ray is not installed or the cluster has no such slot, and OSError if it
    cannot be reached.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError(
            "jobs are to run on Ray, which is not installed: pip install 'edgewise[ray]'"
        ) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    ray.init(
        address or os.environ.get("RAY_ADDRESS") or "local",
        log_to_driver=False,
        configure_logging=False,
    )
    try:
        yield Ray(gpu)
    finally:
        ray.shutdown()


def _as_they_end(futures: dict[Future[Result], Item]) -> Iterator[Ended[Item, Result]]:
    for future in as_completed(futures):
        try:
            yield futures[future], future.result()
        except Exception as error:
            yield futures[future], error


def _in_process(function: Callable[[Item], Result], threads: int, item: Item) -> Result:
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, torch.set_num_threads, (threads,)) as pool:
        return pool.submit(function, item).result()


def _in_folder(folder: Path, function: Callable[[Any], Result], item: Any) -> Result:
    """Relative paths are meant from where the run was started."""
    os.chdir(folder)
    return function(item)
