"""Progress bars: one helper, so that every long loop looks the same and all can be silenced."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from edgewise import parallel

T = TypeVar("T")


def track(
    items: Iterable[T], label: str, *, total: int | None = None, done: int = 0
) -> Iterable[T]:
    """Show a progress bar on the first rank, if it writes to a terminal.

    Nothing is shown elsewhere, or when TQDM_DISABLE=1 is set. `done` is how many items an earlier
    run has finished already.
    """
    return tqdm(
        items,
        desc=label,
        total=total,
        initial=done,
        leave=False,
        disable=None if parallel.rank() == 0 else True,
        dynamic_ncols=True,
    )
