"""The command line in processes that are forked from one which has imported all that a run needs.

A run then begins at once, where a new interpreter would import torch for seconds. It can be killed,
share a folder and start workers like any other.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.cli import main

_FORKING = get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["benchmarks.grid.suite", "benchmarks.run.runner", "benchmarks.run.backends", __name__]
)


class ForkedRun:
    """`edgewise ARGUMENTS`, which first calls `prepare`; what it says is added to the file `said`.

    It answers as `subprocess.Popen` does.
    """

    def __init__(
        self, arguments: Sequence[str], said: Path, prepare: Callable[[], object] | None = None
    ) -> None:
        self._process = _FORKING.Process(target=_run, args=(arguments, said, prepare))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("edgewise", timeout or 0)
        return code

    def kill(self) -> None:
        self._process.kill()


def log_discoveries(log: Path) -> None:
    """From now on this process notes the name of each cell whose circuit it looks for."""
    from benchmarks.run import execute

    discover = execute.discover

    def logged(cell: Any, *arguments: Any, **options: Any) -> Any:
        with log.open("a") as file:
            file.write(cell.name + "\n")
        time.sleep(0.5)  # so that the other run meets it
        return discover(cell, *arguments, **options)

    execute.discover = logged


def _run(arguments: Sequence[str], said: Path, prepare: Callable[[], object] | None) -> None:
    with said.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    if prepare is not None:
        prepare()
    main(list(arguments))
