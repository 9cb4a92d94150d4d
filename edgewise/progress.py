"""Progress bars: one helper, so that every long loop looks the same and all can be silenced."""

from collections.abc import Iterable
from multiprocessing import parent_process
from typing import TypeVar

from tqdm import tqdm

from edgewise import parallel

T = TypeVar("T")


def track(
    items: Iterable[T], label: str, *, total: int | None = None, done: int = 0
) -> Iterable[T]:
    """Show a progress bar on the first rank, if it writes to a terminal.

    Nothing is shown elsewhere, in the worker processes of a run, or when TQDM_DISABLE=1 is set.
    `done` is how many items an earlier run has finished already.
    """
    shown = parallel.rank() == 0 and parent_process() is None
    return tqdm(
        items,
        desc=label,
        total=total,
        initial=done,
        leave=False,
        disable=None if shown else True,
        dynamic_ncols=True,
    )
