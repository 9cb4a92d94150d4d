"""Fixtures that measure, the stored counts, and what goes into the JSON and the last lines."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.report.table import aligned
from benchmarks.run import environment
from benchmarks.speed.measuring import InTurns, Measure
from benchmarks.speed.timings import cost_lines, show_costs
from edgewise.allocator import keep_freed_memory

COUNTS = Path(__file__).parents[2] / "results" / "benchmarks" / "counts.json"
"""Operations of every benchmark, written by `pytest --benchmark --write-counts`."""

_TIMINGS = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture(autouse=True, scope="session")
def _memory_is_kept() -> None:
    """As in the product's own runs."""
    keep_freed_memory()


@pytest.fixture
def measure(recorded: BenchmarkFixture, expect_count: Callable[[int], None]) -> Measure:
    return Measure(recorded, expect_count)


@pytest.fixture
def in_turns(recorded: BenchmarkFixture, expect_count: Callable[[int], None]) -> InTurns:
    return InTurns(recorded, expect_count)


@pytest.fixture
def recorded(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest
) -> Iterator[BenchmarkFixture]:
    """The benchmark, whose extra information goes into the last lines, too."""
    yield benchmark
    timings = request.config.stash.setdefault(_TIMINGS, [])
    timings.append({"benchmark": request.node.name, **benchmark.extra_info})


@pytest.fixture
def expect_count(request: pytest.FixtureRequest, _counts: dict[str, int]) -> Callable[[int], None]:
    """Hold a benchmark's number of operations to the stored one, exactly."""
    name = request.node.nodeid

    def expect(count: int) -> None:
        if request.config.option.write_counts:
            _counts[name] = count
            return
        assert name in _counts, f"no count of {name} in {COUNTS.name}; --write-counts stores one"
        assert count == _counts[name], f"{count:,} operations; expected {_counts[name]:,}"

    return expect


@pytest.fixture(scope="session")
def _counts(request: pytest.FixtureRequest) -> Iterator[dict[str, int]]:
    counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else {}
    yield counts
    if request.config.option.write_counts:
        COUNTS.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(counts, indent=1, sort_keys=True)
        COUNTS.write_text(text + "\n", encoding="utf-8")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """What a cell's record says of the machine, which names no host."""
    machine_info.clear()
    machine_info.update(environment.describe(torch.device("cpu")).as_json())


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """The commit is in the machine's description; every single time would be most of the file."""
    del output_json["commit_info"]
    for entry in output_json["benchmarks"]:
        del entry["stats"]["data"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = cost_lines(config.stash.get(_TIMINGS, []))
    if lines:
        terminalreporter.section("costs")
        terminalreporter.write_line(aligned(show_costs(lines), "simple"))
