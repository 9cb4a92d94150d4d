"""`pytest --benchmark` and `pytest benchmarks --benchmark-only` run benchmarks/, and only that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OPTION = ("--benchmark",)
WITHOUT = ("benchmarks", "--benchmark-only")
CHOICE = ("--benchmark", "benchmarks/speed/bench_steps.py")
# Without most of the tests, whose collection takes long and shows nothing more.
UNREAD = ("benchmarks", "methods", "tasks")
NEITHER = ("-k", "step or imports_go_one_way", *(f"--ignore=tests/{name}" for name in UNREAD))
FORKING = """
import json, os, sys
import pytest, transformers.models.llama.modeling_llama
for arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        code = pytest.main(["--collect-only", "-q", "--assert=plain", *arguments])
        sys.stdout.flush()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    print("-- end --", flush=True)
"""
"""Several runs of pytest, forked from a process that has imported what takes long."""


@pytest.fixture(scope="module")
def collected() -> dict[tuple[str, ...], list[str]]:
    """The tests that runs from the repository's root with these arguments would run."""
    runs = (OPTION, WITHOUT, CHOICE, NEITHER)
    # Runs of their own, also where this one is shared among processes.
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        [sys.executable, "-c", FORKING, json.dumps(runs)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.split("-- end --\n")[: len(runs)]
    return {
        run: [line for line in text.splitlines() if "::" in line]
        for run, text in zip(runs, said, strict=True)
    }


@pytest.mark.slow
def test_both_spellings_run_the_same_benchmarks_and_no_test(
    collected: dict[tuple[str, ...], list[str]],
) -> None:
    by_option = collected[OPTION]
    assert by_option == collected[WITHOUT]
    assert by_option and all(name.startswith("benchmarks/") for name in by_option)


@pytest.mark.slow
def test_the_option_leaves_a_choice_of_benchmarks_alone(
    collected: dict[tuple[str, ...], list[str]],
) -> None:
    names = collected[CHOICE]
    assert names and all(name.startswith("benchmarks/speed/bench_steps.py") for name in names)


@pytest.mark.slow
def test_without_the_option_no_benchmark_runs(
    collected: dict[tuple[str, ...], list[str]],
) -> None:
    names = collected[NEITHER]
    assert names and all(name.startswith("tests/") for name in names)
