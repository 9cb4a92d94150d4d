"""Where cells run that do not run in this process: processes of this machine, or a Ray cluster.

Both take pieces of work that know nothing of each other and give them back as they end, each with
its result or with the error that it ended in. A worker that dies costs its own piece alone.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from benchmarks.run.worker import Worker

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
    """At most `jobs` processes of this machine, each of which takes item after item.

    Each starts when there is work for it and first calls `prepare`. All end with the `with` block,
    or when a `map` is given up. One that dies is replaced.
    """

    def __init__(self, jobs: int, prepare: Callable[[], object] | None = None) -> None:
        self.jobs, self._prepare = jobs, prepare
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Ended[Item, Result]]:
        waiting = deque(items)
        working: dict[Worker, Item] = {}
        try:
            while waiting or working:
                while waiting and len(working) < self.jobs:
                    worker, item = self._free_worker(working), waiting.popleft()
                    worker.give(function, item)
                    working[worker] = item
                answers = wait([worker.connection for worker in working])
                for worker in [one for one in working if one.connection in answers]:
                    yield working.pop(worker), worker.result()
        finally:
            if working:
                self._end()

    def _free_worker(self, working: dict[Worker, Any]) -> Worker:
        self._workers = [worker for worker in self._workers if worker.is_alive()]
        for worker in self._workers:
            if worker not in working:
                return worker
        worker = Worker(self._prepare)
        self._workers.append(worker)
        worker.start()
        return worker

    def _end(self) -> None:
        alive = [worker for worker in self._workers if worker.is_alive()]
        for worker in alive:
            worker.end()
        for worker in alive:
            worker.join()
        self._workers.clear()


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
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except Exception as error:
                yield futures[future], error


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
    on_termination = signal.getsignal(signal.SIGTERM)
    ray.init(
        address or os.environ.get("RAY_ADDRESS") or "local",
        log_to_driver=False,
        configure_logging=False,
    )
    signal.signal(signal.SIGTERM, on_termination)  # Ray has put its own in place
    try:
        yield Ray(gpu)
    finally:
        ray.shutdown()


def _in_folder(folder: Path, function: Callable[[Any], Result], item: Any) -> Result:
    """Relative paths are meant from where the run was started."""
    os.chdir(folder)
    return function(item)
