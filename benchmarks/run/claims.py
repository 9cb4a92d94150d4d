"""Runs that share a folder share out its work: each claims what it does.

A claim is a lock that the operating system keeps on a file in DIR/claims, so it ends with its
process, however that ends. It holds between machines if the folder's file system shares locks
between them, as NFS does. filelock before 3.21 may hold a file that is removed, and before 3.30 it
removes a released file, which may be another run's by then.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from edgewise import parallel

_log = logging.getLogger(__name__)


class Claimed(Exception):
    """Another run is doing this."""


@contextmanager
def claim(folder: Path, name: str, *, wait: bool, label: str = "") -> Iterator[None]:
    """Hold the claim on `name`, shared by all ranks of this run, for the length of the block.

    Raises Claimed if another run is doing it, unless this is to `wait` for its end. `label` is what
    the message about waiting calls it, if not by its name.
    """
    # A name may be too long for a file name, or hold characters that are not allowed there.
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    lock = FileLock(path)
    if not parallel.from_first(lambda: _take(lock, label or name, wait=wait)):
        raise Claimed
    try:
        yield
    finally:
        if parallel.rank() == 0:
            path.unlink(missing_ok=True)  # whoever waits for this very file then makes a new one
            lock.release()


def remove_abandoned(folder: Path) -> None:
    """Remove the claims that killed runs left behind, which nobody holds.

    What cannot be locked or removed stays, such as the claims of another user.
    """
    for path in folder.glob("*.lock"):
        with suppress(OSError), FileLock(path).acquire(blocking=False):
            path.unlink(missing_ok=True)


def _take(lock: FileLock, label: str, *, wait: bool) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            return False
        _log.warning("%s: waiting for another run in this folder that is doing it", label)
        lock.acquire()
    return True
