"""How each method's cost grows with examples, layers, heads, width, prompt length and edges.

One axis at a time, from 4 layers × 4 heads of width 64 and 8 prompts of 16 tokens, all weights
random, but for the examples: IOI on the bundled model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from benchmarks.grid.cell import BUNDLED
from benchmarks.grid.suite import single_cell
from benchmarks.run.loading import Loader
from benchmarks.speed.measuring import Measure
from benchmarks.speed.random_models import random_gpt2, random_task
from edgewise.circuit import Circuit
from edgewise.task import Sizes
from methods import ACDC, EAP, EdgePruning, Random


@dataclass(frozen=True)
class Shape:
    """A random model and its prompts."""

    layers: int = 4
    heads: int = 4
    width: int = 64
    prompts: int = 8
    positions: int = 16


STEPS = 10
RUNS: dict[str, tuple[Any, str]] = {
    "random": (Random(draws=1), "one ranking"),
    "eap": (EAP(), "one pass over the prompts"),
    "edge-pruning": (
        EdgePruning(steps=STEPS, warmup_steps=1, target_warmup_steps=STEPS),
        f"{STEPS} steps of up to 32 prompts",
    ),
    "acdc": (ACDC(threshold=0.01), "a whole search at threshold 0.01"),
}
"""What is timed of each method, and in words."""

SHAPES: dict[str, Callable[[int], Shape]] = {
    "layers": lambda n: Shape(layers=n),
    "heads": lambda n: Shape(heads=n),
    "width": lambda n: Shape(width=n),
    "prompt length": lambda n: Shape(positions=n),
    "edges": lambda n: Shape(layers=n, heads=n, width=120),
}
VALUES: dict[str, dict[tuple[str, ...], tuple[int, ...]]] = {
    "layers": {("eap", "edge-pruning"): (2, 4, 8, 16), ("acdc",): (2, 4, 6, 8)},
    "heads": {("eap", "edge-pruning"): (2, 4, 8, 16), ("acdc",): (2, 4, 8)},
    "width": {("eap", "edge-pruning", "acdc"): (64, 128, 256, 512)},
    "prompt length": {
        ("eap", "edge-pruning"): (16, 32, 64, 128, 256),
        ("acdc",): (16, 32, 64, 128),
    },
    "edges": {("random", "eap", "edge-pruning"): (2, 4, 6, 8, 12), ("acdc",): (2, 3, 4, 6)},
}
"""Along `edges`, layers and heads grow together. A search grows too long sooner than a pass."""

EXAMPLES = {
    "eap": (100, 1_000, 10_000, 100_000),
    "edge-pruning": (100, 400, 1_600),
    "acdc": (25, 50, 100),
}


def points() -> Iterator[Any]:
    for axis, values in VALUES.items():
        group = pytest.mark.benchmark(group=f"scaling: {axis}")
        for methods, numbers in values.items():
            for method in methods:
                yield from (pytest.param(axis, method, n, marks=group) for n in numbers)


@pytest.mark.parametrize("axis, method, number", list(points()))
def test_growth_with_the_shape(measure: Measure, axis: str, method: str, number: int) -> None:
    shape = SHAPES[axis](number)
    model = random_gpt2(shape.layers, shape.heads, shape.width)
    task = random_task(model, prompts=shape.prompts, positions=shape.positions)
    run, work = RUNS[method]
    found = measure(
        lambda: run.discover(model, task, generator=torch.Generator().manual_seed(0)),
        model,
        task.train.lengths,
        rounds=1 if method == "acdc" else 3,
        method=method,
        axis=axis,
        value=model.graph.n_edges if axis == "edges" else number,
        work=work,
        weights="random GPT-2 shapes",
    )
    measure.add(**search_counts(found))


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(torch.device("cpu"))


@pytest.mark.benchmark(group="scaling: examples")
@pytest.mark.parametrize(
    "method, prompts", [(method, n) for method, numbers in EXAMPLES.items() for n in numbers]
)
def test_growth_with_examples(measure: Measure, loader: Loader, method: str, prompts: int) -> None:
    bench = single_cell(method, "ioi", model=None, seed=0, given={}).bench
    bench = replace(bench, sizes=Sizes(train=prompts, validation=1, test=1))
    model, task = loader.model(bench), loader.task(bench)
    run, work = RUNS[method]
    found = measure(
        lambda: run.discover(model, task, generator=torch.Generator().manual_seed(0)),
        model,
        task.train.lengths,
        rounds=1,
        method=method,
        axis="examples",
        value=prompts,
        work=work,
        weights=f"{BUNDLED} (examples of IOI)",
    )
    measure.add(**search_counts(found))


def search_counts(found: Any) -> dict[str, int]:
    """Of a search: the edges it tested, and those it kept."""
    if isinstance(found, Circuit) and "tested" in found.meta:
        return {"tested": found.meta["tested"], "kept": found.n_edges}
    return {}
