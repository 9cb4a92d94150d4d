"""Worker processes: they go from item to item, are replaced when they die, and outlive nobody."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest

from benchmarks.run.backends import Processes
from tests.benchmarks.run.light_work import pid_of, square_or_die

STOPPED = "stopped; run the same command to go on\n"


@pytest.fixture
def one() -> Iterator[Processes]:
    with Processes(1) as backend:
        yield backend


def pids(backend: Processes, items: int) -> set[int | Exception]:
    return {pid for _, pid in backend.map(pid_of, range(items))}


def test_one_process_takes_item_after_item_of_map_after_map(one: Processes) -> None:
    (pid,) = pids(one, 4)
    assert pids(one, 3) == {pid} != {os.getpid()}


def test_a_process_that_died_is_replaced_at_work_or_not(one: Processes, tmp_path: Path) -> None:
    first = pids(one, 1)
    ((_, died),) = one.map(square_or_die, [(tmp_path / "begun", 2)])
    assert isinstance(died, RuntimeError) and str(died) == "the worker process died: exit code 1"
    second = pids(one, 2)
    (idle,) = active_children()
    idle.kill()
    idle.join()
    third = pids(one, 2)
    assert [len(alive) for alive in (first, second, third, first | second | third)] == [1, 1, 1, 3]


def test_a_process_that_is_killed_says_so(one: Processes) -> None:
    ((_, died),) = one.map(signal.raise_signal, [signal.SIGKILL])
    assert str(died).startswith("the worker process died: Killed")


def test_what_cannot_be_sent_back_is_an_error_of_its_item(one: Processes) -> None:
    ((_, error),) = one.map(memoryview, [b"cannot be pickled"])
    assert isinstance(error, TypeError) and "In the worker process" in error.__notes__[0]
    assert len(pids(one, 1)) == 1


def test_processes_start_as_there_is_work_for_them_and_end_with_their_block() -> None:
    with Processes(2) as backend:
        assert not active_children()
        pids(backend, 1)
        assert len(active_children()) == 1
        pids(backend, 9)
        assert len(active_children()) == 2
    assert not active_children()


def test_a_map_that_is_given_up_ends_its_processes() -> None:
    with Processes(2) as backend:
        ended = backend.map(time.sleep, [600.0, 0.0])
        assert next(ended) == (0.0, None)
        del ended
        assert not active_children()
        assert pids(backend, 1)


def test_each_process_is_prepared_first(tmp_path: Path) -> None:
    with Processes(2, partial(os.chdir, tmp_path)) as backend:
        ended = list(backend.map(Path.resolve, [Path("here"), Path("there")]))
    assert sorted(ended) == [(Path(name), tmp_path / name) for name in ("here", "there")]


@pytest.mark.parametrize(
    ("sent", "to_all", "code", "said"),
    [
        (signal.SIGINT, True, 130, STOPPED),  # as a terminal sends it
        (signal.SIGTERM, False, 130, STOPPED),
        (signal.SIGKILL, False, -signal.SIGKILL, ""),
    ],
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_a_stopped_run_leaves_no_process_and_begins_nothing_more(
    sent: signal.Signals, to_all: bool, code: int, said: str, tmp_path: Path
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.run.light_work", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while len(list(tmp_path.iterdir())) < 2:
            assert run.poll() is None, run.communicate()
            time.sleep(0.001)
        (os.killpg if to_all else os.kill)(run.pid, sent)
        # The pipes are the workers', too, so this waits until the last of them has ended.
        assert run.communicate(timeout=60) == ("", said)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == code
    assert not (tmp_path / "third").exists()
