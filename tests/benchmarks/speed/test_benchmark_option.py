"""`pytest --benchmark` and `pytest benchmarks --benchmark-only` run benchmarks/, and only that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def collected(*arguments: str) -> list[str]:
    """The tests that a run from the repository's root would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    # A run of its own, also where this one is shared among processes.
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow
def test_both_spellings_run_the_same_benchmarks_and_no_test() -> None:
    by_option = collected("--benchmark")
    assert by_option == collected("benchmarks", "--benchmark-only")
    assert by_option and all(name.startswith("benchmarks/") for name in by_option)


@pytest.mark.slow
def test_the_option_leaves_a_choice_of_benchmarks_alone() -> None:
    names = collected("--benchmark", "benchmarks/speed/bench_steps.py")
    assert names and all(name.startswith("benchmarks/speed/bench_steps.py") for name in names)


@pytest.mark.slow
def test_without_the_option_no_benchmark_runs() -> None:
    names = collected("-k", "step or imports_go_one_way")
    assert names and all(name.startswith("tests/") for name in names)
