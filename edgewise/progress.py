"""How far a long loop is: every one goes through `track`, so that all look the same.

By default a loop that writes to a terminal has a bar. An observer, such as the command line's view,
is told of all loops instead, one in the other, and of what is to be said of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Protocol, TypeVar, runtime_checkable

from tqdm import tqdm

from edgewise import parallel

T = TypeVar("T")
Facts = Mapping[str, float | str]
"""What is to be said of the innermost loop, such as its loss."""


@runtime_checkable
class Observer(Protocol):
    """Is told what the loops do; of loops in one another, the innermost is meant."""

    def begin(self, label: str, total: int | None, done: int) -> None: ...
    def step(self) -> None: ...
    def note(self, facts: Callable[[], Facts]) -> None:
        """`facts` may wait for a GPU: it is called only where they are shown."""
        ...

    def end(self) -> None: ...


_observer: Observer | None = None


@contextmanager
def observed_by(observer: Observer | None) -> Iterator[None]:
    """Within the block, the observer is told of the loops of this process, if it is the first."""
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before


def track(
    items: Iterable[T], label: str, *, total: int | None = None, done: int = 0
) -> Iterable[T]:
    """The items, with a progress bar on the first rank, if it writes to a terminal.

    Nothing is shown elsewhere, in the worker processes of a run, or when TQDM_DISABLE=1 is set.
    `done` is how many items an earlier run has finished already.
    """
    shown = _is_shown()
    if shown and _observer is not None:
        return _observed(items, label, _observer, total, done)
    return tqdm(
        items,
        desc=label,
        total=total,
        initial=done,
        leave=False,
        disable=None if shown else True,
        dynamic_ncols=True,
    )


def note(facts: Callable[[], Facts]) -> None:
    """Say something of the innermost loop to the observer, if there is one."""
    if _observer is not None and _is_shown():
        _observer.note(facts)


def _is_shown() -> bool:
    return parallel.rank() == 0 and parent_process() is None


def _observed(
    items: Iterable[T], label: str, observer: Observer, total: int | None, done: int
) -> Iterator[T]:
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # pyright: ignore[reportArgumentType]
    observer.begin(label, total, done)
    try:
        for item in items:
            yield item
            observer.step()
    finally:
        observer.end()
