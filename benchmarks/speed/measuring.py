"""What a benchmark measures: seconds, operations, peak memory, and time against something else's.

All of it goes into pytest-benchmark's extra information, from which `edgewise report` reads it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import psutil
import torch
from jaxtyping import Int
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from edgewise.allocator import release_freed_memory
from edgewise.discovery import Meter
from edgewise.transformer import MaskedTransformer

WIDTH, PRODUCTS = 2048, 4
PAIRS, WARM_UP = 15, 2
LARGE_PRODUCTS = "2048³ products of as many operations"


@dataclass(frozen=True)
class Recorder:
    """Runs a function and records its cost; `expect` holds the operations to a stored count."""

    benchmark: BenchmarkFixture
    expect: Callable[[int], None]

    def add(self, **info: object) -> None:
        """More extra information."""
        self.benchmark.extra_info.update(info)

    @property
    def seconds(self) -> list[float]:
        """Of every round; none under --benchmark-disable."""
        return [] if self.benchmark.stats is None else self.benchmark.stats.stats.data


class Measure(Recorder):
    """Seconds, the median over the rounds; operations, the same in each; the greatest memory."""

    def __call__(
        self,
        function: Callable[[], Any],
        model: MaskedTransformer,
        lengths: Int[Tensor, " prompt"],
        *,
        rounds: int = 3,
        **info: object,
    ) -> Any:
        """What the function gives; `lengths` are those of a forward-equivalent's prompts.

        With more rounds than one there is one more to warm up.
        """
        costs: list[dict[str, int]] = []

        def metered() -> Any:
            result, cost = with_cost(function, model)
            costs.append(cost)
            return result

        result = self.benchmark.pedantic(
            metered, setup=release_freed_memory, rounds=rounds, warmup_rounds=int(rounds > 1)
        )
        (count,) = {cost["flops"] for cost in costs}
        peaks = {name: max(cost[name] for cost in costs) for name in ("peak_bytes", "added_bytes")}
        self.add(**info, **description(model, lengths, count), **peaks, rounds=rounds)
        if self.seconds:
            self.add(seconds=median(self.seconds))
        self.expect(count)
        return result


class InTurns(Recorder):
    """Seconds in turns with something else's; the ratio's median and quartiles over the pairs."""

    def __call__(
        self,
        function: Callable[[], Any],
        other: Callable[[], float],
        model: MaskedTransformer,
        lengths: Int[Tensor, " prompt"],
        *,
        against: str = LARGE_PRODUCTS,
        pairs: int = PAIRS,
        warm_up: int = WARM_UP,
        **info: object,
    ) -> None:
        """`other` gives its own seconds; operations and memory are those of one run before."""
        others: list[float] = []
        release_freed_memory()
        _, cost = with_cost(function, model)
        count = cost.pop("flops")
        self.benchmark.pedantic(
            function,
            setup=lambda: others.append(other()),
            rounds=pairs,
            warmup_rounds=warm_up,
        )
        self.add(**info, **description(model, lengths, count), **cost, against=against)
        if self.seconds:
            timed = list(zip(self.seconds, others[-pairs:], strict=True))
            low, middle, high = quantiles([one / two for one, two in timed], n=4)
            self.add(
                seconds=median(one for one, _ in timed),
                against_seconds=median(two for _, two in timed),
                ratio=middle,
                lower_quartile=low,
                upper_quartile=high,
                pairs=pairs,
            )
        self.expect(count)


def products(operations: float) -> Callable[[], float]:
    """The seconds that float32 products of 2048 × 2048 matrices take for as many operations."""
    left, right = torch.randn(2, WIDTH, WIDTH)
    out = torch.empty(WIDTH, WIDTH)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=out)
        return (time.perf_counter() - start) * operations / (PRODUCTS * 2 * WIDTH**3)

    return run


def with_cost(function: Callable[[], Any], model: MaskedTransformer) -> tuple[Any, dict[str, int]]:
    """What a function gives, and its cost; `added_bytes`: the peak above what was held before."""
    before = psutil.Process().memory_info().rss
    meter = Meter(model)
    with meter.run():
        result = function()
    peak = meter.peak_bytes
    added = max(0, peak - before)
    return result, {"flops": meter.flops, "peak_bytes": peak, "added_bytes": added}


def description(
    model: MaskedTransformer, lengths: Int[Tensor, " prompt"], count: int
) -> dict[str, Any]:
    """What the model and the prompts are, and the operations in forward passes of them."""
    return {
        "flops": count,
        "forward_equivalents": count / model.forward_flops(lengths),
        "prompts": len(lengths),
        "tokens": int(lengths.sum()),
        "layers": model.graph.n_layers,
        "heads": model.graph.n_heads,
        "d_model": model.architecture.d_model,
        "edges": model.graph.n_edges,
        "graph": model.graph.convention,
    }
