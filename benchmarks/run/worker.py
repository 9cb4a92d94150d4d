"""A process that does one piece of work after the other and gives back what came of each."""

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from threading import Thread
from typing import Any

_SPAWN = get_context("spawn")


class Worker:
    """Such a process, as its parent sees it. It ends at the latest when its parent does.

    Ctrl-C does not reach it: the parent decides what becomes of it.
    """

    def __init__(self, prepare: Callable[[], object] | None) -> None:
        self._is_idle = False
        self.connection, self._theirs = _SPAWN.Pipe()
        # A daemon, so that the parent ends it at its own end at the latest.
        self._process = _SPAWN.Process(target=_work, args=(self._theirs, prepare), daemon=True)

    def start(self) -> None:
        """Start it; it calls `prepare` before all else."""
        ensure_running()  # else `start` would do so, and let the signals through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._theirs.close()  # so that the connection ends with the process

    def give(self, function: Callable[[Any], Any], item: Any) -> None:
        """Have it call the function on the item."""
        self._is_idle, work = False, pickle.dumps((function, item))
        with suppress(OSError):  # it has died, as its result will say
            self.connection.send_bytes(work)

    def result(self) -> Any:
        """What the function gave, or the error that it ended in; waits for it."""
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            return self._death()
        self._is_idle = True
        try:
            return pickle.loads(answer)
        except Exception as error:
            return error

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def end(self) -> None:
        """Have it end; what it is at is lost."""
        if self._is_idle:
            self.connection.close()
        else:
            self._process.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join()
        self.connection.close()

    def _death(self) -> RuntimeError:
        self.join()
        code = self._process.exitcode or 0
        how = signal.strsignal(-code) if code < 0 else f"exit code {code}"
        return RuntimeError(f"the worker process died: {how}")


def _work(connection: Connection, prepare: Callable[[], object] | None) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()
    while True:
        try:
            work = connection.recv_bytes()
        except EOFError:
            return
        try:
            function, item = pickle.loads(work)
            answer = pickle.dumps(function(item))
        except Exception as error:
            error.add_note(f"In the worker process:\n{traceback.format_exc()}")
            answer = pickle.dumps(error)
        connection.send_bytes(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
