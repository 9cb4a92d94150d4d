"""Work for the tests of workers that imports next to nothing, and a command that runs it."""

import os
import sys
import time
from pathlib import Path

from benchmarks.cli.shared import resumable
from benchmarks.run.backends import Processes


def pid_of(_: object) -> int:
    return os.getpid()


def square_or_die(item: tuple[Path, int]) -> int:
    """Note the number in the file; 2 ends its worker and 3 raises."""
    begun, number = item
    with begun.open("a") as lines:
        lines.write(f"{number}\n")
    if number == 2:
        os._exit(1)
    if number == 3:
        raise ValueError("three")
    return number**2


def wait_for_ever(begun: Path) -> None:
    begun.touch()
    while True:
        time.sleep(60)


@resumable
def main(folder: Path) -> None:
    """Two workers begin what never ends, so that the third item never begins."""
    with Processes(2) as backend:
        list(backend.map(wait_for_ever, [folder / name for name in ("first", "second", "third")]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
