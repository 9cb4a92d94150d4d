"""Whole small discoveries of each method, on the bundled model and on compiled programs."""

from pathlib import Path

import pytest
import torch

from benchmarks.grid.cell import BUNDLED, Cell
from benchmarks.grid.suite import parse_suite
from benchmarks.run.execute import evaluate_circuits
from benchmarks.run.loading import Loader
from benchmarks.speed.measuring import Measure
from benchmarks.store import draws_of
from edgewise import Circuit
from edgewise.evaluate import compare_with_truth

TENTH = 0.1
"""The share of the edges that rankings are cut to where no true circuit is known."""

CELLS = parse_suite(
    """
    name = "methods"
    tasks = ["ioi", "greater-than", "gendered-pronoun", "tracr-reverse", "tracr-xproportion"]
    task.ioi = { train = 50, validation = 10, test = 100 }
    task.greater-than = { train = 50, validation = 10, test = 100 }
    task.gendered-pronoun = { train = 50, validation = 10, test = 100 }
    [[method]]
    name = "random"
    draws = 1
    [[method]]
    name = "eap"
    [[method]]
    name = "acdc"
    threshold = 0.1
    [[method]]
    name = "edge-pruning"
    tasks = ["ioi", "greater-than", "gendered-pronoun"]
    target_sparsity = 1.0
    steps = 600
    warmup_steps = 40
    target_warmup_steps = 500
    batch_size = 16
    [[method]]
    name = "edge-pruning"
    tasks = ["tracr-reverse", "tracr-xproportion"]
    """,
    Path(__file__).name,
).cells


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(torch.device("cpu"))


@pytest.mark.benchmark(group="methods")
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.bench.task}-{cell.method}")
def test_a_discovery(measure: Measure, loader: Loader, cell: Cell) -> None:
    """One round: discoveries take seconds to minutes."""
    model, task = loader.model(cell.bench), loader.task(cell.bench)
    method = cell.build()
    found = measure(
        lambda: method.discover(model, task, generator=torch.Generator().manual_seed(0)),
        model,
        task.train.lengths,
        rounds=1,
        method=cell.method,
        task=cell.bench.task,
        weights=BUNDLED if cell.bench.model else model.id,
    )
    truths = task.true_circuits.get(task.ablation, [])
    if not isinstance(found, Circuit):
        sizes = [int(truth.sum()) for truth in truths] or [round(TENTH * model.graph.n_edges)]
        found = draws_of(found)[0].circuit(sizes[0])
    (row,), _ = evaluate_circuits(model, task, [found])
    metric = task.metrics[task.primary]
    measure.add(
        kept=found.n_edges,
        test_prompts=len(task.test),
        metric=metric.unit,
        quality=row.metrics[metric.name],
    )
    if truths:
        comparison = compare_with_truth(found, truths)
        measure.add(missing=comparison["missing"], extra=comparison["extra"])
