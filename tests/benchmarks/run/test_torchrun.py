"""The command line under torchrun: one result, written and printed once; one failure ends all."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.grid.suite import load_suite
from benchmarks.record import FAILED, Unfinished
from benchmarks.run.runner import Options, run
from benchmarks.store import Store
from tests.benchmarks.samples import SMALL_SUITE

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
DISCOVER = ["discover", "--task", "tracr-xproportion", "--device", "cpu"]


@pytest.mark.slow
def test_a_run_under_torchrun_gives_what_one_process_gives(tmp_path: Path) -> None:
    suite = tmp_path / "small.toml"
    suite.write_text(SMALL_SUITE)
    run(load_suite(str(suite)).cells, tmp_path / "one", Options(torch.device("cpu")))
    command = ["-m", "benchmarks.cli", "run", str(suite), "--out", str(tmp_path / "two")]
    options = ["--device", "cpu", "--checkpoint-every", "0"]
    done = torchrun(*command, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 cells in") == 1
    one, two = (Store(tmp_path / name).finished() for name in ("one", "two"))
    assert len(two) == 5
    for alone, shared in zip(one, two, strict=True):
        assert shared.environment.processes == 2
        assert [row.edges for row in shared.rows] == [row.edges for row in alone.rows]
        for row, expected in zip(shared.rows, alone.rows, strict=True):
            assert row.metrics == pytest.approx(expected.metrics, rel=1e-5, abs=1e-7)
        # The ranks' shares add up; Edge Pruning's full and corrupted runs are made on each.
        kept = alone.definition.method == "edge-pruning"
        most = (1.1 if kept else 1.0) * alone.flops
        assert alone.flops <= shared.flops <= most
    assert (tmp_path / "one" / "matched").exists()
    names = [{path.name for path in (tmp_path / n / "matched").iterdir()} for n in ("one", "two")]
    assert names[0] == names[1] and not list((tmp_path / "two" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_rank_that_fails_ends_all(tmp_path: Path) -> None:
    command = ["-m", "tests.benchmarks.run.failing_rank", *DISCOVER, "--method", "failing"]
    done = torchrun(*command, "--out", str(tmp_path))
    assert done.returncode != 0 and "the second rank broke" in done.stderr
    records = Store(tmp_path).records()
    assert all(isinstance(r, Unfinished) and r.status == FAILED for r in records)


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*TORCHRUN, *arguments], capture_output=True, text=True, timeout=500)
