"""Runs that share a folder share out its work, and nothing is done twice."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.check.folders import differences, steady
from benchmarks.run.claims import Claimed, claim, remove_abandoned
from tests.benchmarks.run.forked import ForkedRun, log_discoveries

HOLDING = """
import sys, time
from pathlib import Path
from benchmarks.check.folders import differences, steady
from benchmarks.run.claims import claim
with claim(Path(sys.argv[1]), "cell", wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_claim_ends_with_its_block_and_leaves_nothing(tmp_path: Path) -> None:
    for name in ("cell", "cell", "a/b" * 500):
        with claim(tmp_path, name, wait=False), claim(tmp_path, "another", wait=False):
            assert len(list(tmp_path.iterdir())) == 2
            with pytest.raises(Claimed), claim(tmp_path, name, wait=False):
                pass
        assert not list(tmp_path.iterdir())


def test_a_dead_processs_claim_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(Claimed), claim(tmp_path, "cell", wait=False):
        pass
    holder.kill()
    with claim(tmp_path, "cell", wait=True):
        pass
    holder.wait()
    holder.stdout.close()


def test_claims_that_nobody_holds_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "abandoned.lock").touch()
    with claim(tmp_path, "held", wait=False):
        (held,) = set(tmp_path.iterdir()) - {tmp_path / "abandoned.lock"}
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == [held]


def test_what_cannot_be_locked_stays(tmp_path: Path) -> None:
    (tmp_path / "other.lock").mkdir()
    (tmp_path / "abandoned.lock").touch()
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "other.lock"]


def test_who_waits_for_a_claim_that_ends_holds_it_alone(tmp_path: Path) -> None:
    """The file that is waited for is removed: the claim is then on a new one."""
    with claim(tmp_path, "cell", wait=False):
        (path,) = tmp_path.iterdir()
        waiting = FileLock(path)
    with waiting:
        assert path.exists()
        with pytest.raises(Claimed), claim(tmp_path, "cell", wait=False):
            pass


def run_twice_at_once(
    arguments: list[str], folder: Path, prepare: Callable[[], object] | None = None
) -> None:
    said = [folder / "first", folder / "second"]
    for file, run in [(file, ForkedRun(arguments, file, prepare)) for file in said]:
        assert run.wait() == 0, file.read_text()


@pytest.mark.slow
def test_two_runs_at_once_discover_every_circuit_once(
    undisturbed: tuple[Path, Path], tmp_path: Path
) -> None:
    suite, expected = undisturbed
    results, log = tmp_path / "results", tmp_path / "log"
    command = ["run", str(suite), "--out", str(results)]
    run_twice_at_once(command, tmp_path, partial(log_discoveries, log))
    assert sorted(log.read_text().split()) == sorted(steady(expected))
    assert not differences(results, expected)


@pytest.mark.slow
def test_two_runs_at_once_of_several_jobs_give_the_same_results(
    undisturbed: tuple[Path, Path], tmp_path: Path
) -> None:
    suite, expected = undisturbed
    results = tmp_path / "results"
    run_twice_at_once(["run", str(suite), "--out", str(results), "--jobs", "2"], tmp_path)
    assert not differences(results, expected)
