"""Peak memory of a step of Edge Pruning against model size, measured and predicted."""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.speed.step_memory import Size

SIZES = (
    Size(2, 2, 128),
    Size(4, 4, 256),
    Size(6, 6, 384),
    Size(8, 8, 512),
    Size(12, 12, 768),
    Size(24, 16, 1024),
)
"""The last two are the shapes of GPT-2 small and medium."""


@pytest.mark.benchmark(group="memory")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.layers}-{size.heads}-{size.width}")
def test_the_peak_of_a_step(benchmark: BenchmarkFixture, size: Size) -> None:
    """The time is that of the whole process and says nothing."""
    done = benchmark.pedantic(_in_a_process, args=(size,), rounds=1)
    benchmark.extra_info.update(done, method="edge-pruning")


def _in_a_process(size: Size) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed.step_memory", json.dumps(asdict(size))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
