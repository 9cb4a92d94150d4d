"""ACDC's cost per tested edge, and its time against its own products.

Tested: the edge's removal was evaluated. Edges dropped with dead components are counted apart.
Each threshold leaves about 3 % of the edges. `threshold_leaving` found it, by bisection; it is
rounded down, so that no less is left.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from scipy.optimize import bisect

from benchmarks.speed.measuring import InTurns, Measure, products
from benchmarks.speed.random_models import random_gpt2, random_task
from edgewise.circuit import Circuit
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC

SHARE, TOLERANCE = 0.03, 0.005


@dataclass(frozen=True)
class Search:
    """A random model, its prompts, and the threshold that leaves about 3 % of its edges."""

    layers: int
    heads: int
    width: int
    prompts: int
    positions: int
    threshold: float

    def prepare(self) -> tuple[MaskedTransformer, Task]:
        model = random_gpt2(self.layers, self.heads, self.width)
        return model, random_task(model, prompts=self.prompts, positions=self.positions)


DEEP = Search(layers=12, heads=12, width=192, prompts=4, positions=8, threshold=0.0035)
"""The layers and heads of GPT-2 small, a quarter of its width: for the count."""
WIDE = Search(layers=2, heads=12, width=768, prompts=8, positions=16, threshold=0.5)
"""The heads and width of GPT-2 small, its first two layers: for the time."""


def search(model: MaskedTransformer, task: Task, threshold: float) -> Circuit:
    method = ACDC(threshold=threshold)
    return method.discover(model, task, generator=torch.Generator().manual_seed(0))


@pytest.mark.benchmark(group="acdc")
def test_a_search_of_twelve_layers_of_twelve_heads(measure: Measure) -> None:
    model, task = DEEP.prepare()
    found = measure(
        lambda: search(model, task, DEEP.threshold),
        model,
        task.train.lengths,
        rounds=1,
        method="acdc",
    )
    measure.add(**described(found, DEEP))


@pytest.mark.benchmark(group="acdc")
def test_a_search_of_two_layers_of_gpt2_smalls_width(in_turns: InTurns) -> None:
    model, task = WIDE.prepare()
    before = model.flops
    found = search(model, task, WIDE.threshold)
    in_turns(
        lambda: search(model, task, WIDE.threshold),
        products(model.flops - before),
        model,
        task.train.lengths,
        pairs=3,
        warm_up=0,
        method="acdc",
        **described(found, WIDE),
    )


def described(found: Circuit, search: Search) -> dict[str, Any]:
    share = found.n_edges / found.graph.n_edges
    assert abs(share - SHARE) < TOLERANCE, f"{share:.1%} of the edges left; expected about 3 %"
    counts = {name: found.meta[name] for name in ("tested", "dropped")}
    return {**counts, "kept": found.n_edges, "threshold": search.threshold}


def threshold_leaving(model: MaskedTransformer, task: Task, share: float) -> float:
    """Bisection of log10(threshold) between −4 and 1, to 0.02, on the share of edges left."""

    def excess(exponent: float) -> float:
        return search(model, task, 10**exponent).n_edges / model.graph.n_edges - share

    exponent: Any = bisect(excess, -4, 1, xtol=0.02)
    return 10**exponent
