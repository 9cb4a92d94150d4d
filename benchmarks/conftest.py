"""Times against the machine's own: as many operations in large products, run in turns."""

import time
from collections.abc import Callable
from statistics import median, quantiles

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from tabulate import tabulate

WIDTH, PRODUCTS = 2048, 4
PAIRS, WARM_UP = 15, 2
AgainstProducts = Callable[[Callable[[], object], float], None]
_ROWS = pytest.StashKey[list[dict[str, object]]]()


@pytest.fixture
def against_products(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest
) -> AgainstProducts:
    """Time a function in turns with `operations` in float32 products of 2048 × 2048 matrices.

    The ratio of the two, its quartiles over the pairs, goes into the benchmark's extra information
    and into a table at the end. No time is asserted.
    """

    def compare(function: Callable[[], object], operations: float) -> None:
        left, right = torch.randn(2, WIDTH, WIDTH)
        out = torch.empty(WIDTH, WIDTH)
        products: list[float] = []

        def run_products() -> None:
            start = time.perf_counter()
            for _ in range(PRODUCTS):
                torch.mm(left, right, out=out)
            seconds = time.perf_counter() - start
            products.append(seconds * operations / (PRODUCTS * 2 * WIDTH**3))

        benchmark.pedantic(function, setup=run_products, rounds=PAIRS, warmup_rounds=WARM_UP)
        if benchmark.stats is None:  # --benchmark-disable
            return
        timed = list(zip(benchmark.stats.stats.data, products[-PAIRS:], strict=True))
        low, middle, high = quantiles([one / other for one, other in timed], n=4)
        row = {
            "seconds": median(one for one, _ in timed),
            "products": median(other for _, other in timed),
            "ratio": middle,
            "lower quartile": low,
            "upper quartile": high,
            "pairs": PAIRS,
        }
        benchmark.extra_info.update(row, gflop=operations / 1e9, threads=torch.get_num_threads())
        request.config.stash.setdefault(_ROWS, []).append({"step": request.node.name, **row})

    return compare


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if rows := config.stash.get(_ROWS, []):
        terminalreporter.section("against large products of as many operations")
        terminalreporter.write_line(tabulate(rows, headers="keys", floatfmt=".3f"))
