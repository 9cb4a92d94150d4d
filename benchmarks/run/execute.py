"""One cell from start to end: discovery, timed alone, then its circuits on the test prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.grid.cell import Cell
from benchmarks.run import environment
from benchmarks.store import FINISHED, SCHEMA, Discovery, Record, draws_of, first_of
from edgewise import Circuit, EdgeScores, MaskedTransformer, Task, parallel
from edgewise.allocator import keep_freed_memory, release_freed_memory
from edgewise.circuit import n_edges_at
from edgewise.discovery import Checkpoint, Meter
from edgewise.evaluate import compare_with_truth, evaluate
from edgewise.metrics import Metric
from edgewise.prompts import PromptPairs
from methods import METHODS

Prompts = dict[str, Tensor]


_COST = (
    *("seconds", "flops", "forward_equivalents", "peak_bytes", "peak_memory_source"),
    "environment",
)
"""What a record says of what its discovery cost, and where."""


def execute(
    cell: Cell,
    model: MaskedTransformer,
    task: Task,
    checkpoint: Path,
    *,
    every_seconds: float,
    trained: tuple[Record, Discovery] | None = None,
) -> tuple[Record, Discovery, Prompts]:
    """The finished cell's record, what was discovered, and every metric `[row, prompt]`.

    `trained` is a cell that differs only in what its method does after training, and what it found.
    """
    if trained is None:
        discovery, cost = discover(cell, model, task, checkpoint, every_seconds=every_seconds)
    else:
        discovery, cost = finish(cell, model, *trained)
    discovery = _stamped(discovery, cell, model)
    rows, prompts = evaluate_discovery(cell, model, task, discovery)
    record = {
        "schema": SCHEMA,
        "name": cell.name,
        "status": FINISHED,
        "definition": cell.definition(),
        "kind": "circuit" if isinstance(discovery, Circuit) else "scores",
        "model": model.id,
        "dtype": cell.bench.dtype,
        "graph": model.graph.convention,
        "n_edges": model.graph.n_edges,
        "ablation": task.ablation,
        "n_prompts": {
            "train": len(task.train),
            "validation": len(task.validation),
            "test": len(task.test),
        },
        "metrics": {
            name: {"better": metric.better, "unit": metric.unit}
            for name, metric in task.metrics.items()
        },
        "primary_metric": task.primary,
        "true_circuits": [int(truth.sum()) for truth in _truths(task)],
        "environment": environment.describe(model.device),
        "rows": rows,
        **cost,
    }
    if cell.label:
        record["label"] = cell.label
    return record, discovery, prompts


def discover(
    cell: Cell, model: MaskedTransformer, task: Task, checkpoint: Path, *, every_seconds: float
) -> tuple[Discovery, dict[str, Any]]:
    """Run the method; only `discover` itself is timed, with warm kernels and empty caches.

    Of several ranks, operations are summed, peak memory is the largest, and time is each one's own.
    """
    method = METHODS[cell.method](**cell.settings)
    generator = torch.Generator(model.device).manual_seed(cell.bench.seed)
    keep_freed_memory()
    _warm_up(model, task)
    release_freed_memory()
    device_module = torch.get_device_module(model.device)
    if hasattr(device_module, "empty_cache"):
        device_module.empty_cache()
    meter = Meter(model)
    saved = Checkpoint(checkpoint, meter, every_seconds=every_seconds)
    with meter.run():
        discovery = method.discover(model, task, generator=generator, checkpoint=saved)
    flops = int(parallel.total(torch.tensor(meter.flops)))
    return discovery, {
        "seconds": meter.seconds,
        "flops": flops,
        "forward_equivalents": flops / model.forward_flops(task.train.lengths),
        "peak_bytes": int(parallel.largest(torch.tensor(meter.peak_bytes))),
        "peak_memory_source": meter.memory_source,
        "notes": dict(first_of(discovery).meta),
    }


def finish(
    cell: Cell, model: MaskedTransformer, trained: Record, found: Discovery
) -> tuple[Discovery, dict[str, Any]]:
    """What the cell's method makes of another cell's training, at the cost of that training."""
    discovery = METHODS[cell.method](**cell.settings).finish(first_of(found).extra, model.graph)
    cost = {name: trained[name] for name in _COST}
    origin = trained.get("trained_in", trained["name"])
    return discovery, {**cost, "notes": {}, "trained_in": origin}


def evaluate_discovery(
    cell: Cell, model: MaskedTransformer, task: Task, discovery: Discovery
) -> tuple[list[Record], Prompts]:
    """The cell's rows, and every metric `[row, prompt]`, for what was found now or earlier."""
    if isinstance(discovery, Circuit):
        return evaluate_circuits(model, task, [discovery])
    return evaluate_scores(model, task, draws_of(discovery), _sizes(cell, model, task))


def evaluate_scores(
    model: MaskedTransformer, task: Task, draws: Sequence[EdgeScores], sizes: Sequence[int]
) -> tuple[list[Record], Prompts]:
    """One row per draw and number of edges.

    A single ranking also gets the primary metric's mean on the validation pairs, by which a report
    can choose among a method's variants without a look at the test prompts.
    """
    circuits = [scores.circuit(size) for scores in draws for size in sizes]
    rows, prompts = evaluate_circuits(model, task, circuits)
    if len(draws) > 1:
        for position, row in enumerate(rows):
            row["draw"] = position // len(sizes)
    else:
        metric = task.primary
        chosen = {metric: task.metrics[metric]}
        values = _evaluate(model, task, circuits, task.validation, chosen)[metric]
        for row, mean in zip(rows, values.double().mean(1).tolist(), strict=True):
            row["validation"] = {metric: mean}
    return rows, prompts


def evaluate_circuits(
    model: MaskedTransformer, task: Task, circuits: Sequence[Circuit]
) -> tuple[list[Record], Prompts]:
    """One row per circuit, and every metric on every test prompt."""
    prompts = _evaluate(model, task, circuits, task.test, task.metrics)
    means = {name: values.double().mean(1).tolist() for name, values in prompts.items()}
    truths = _truths(task)
    rows: list[Record] = []
    for position, circuit in enumerate(circuits):
        row: Record = {
            "edges": circuit.n_edges,
            "sparsity": circuit.sparsity,
            "live_sparsity": circuit.live_sparsity(task.ablation),
            "metrics": {name: values[position] for name, values in means.items()},
        }
        if truths:
            row["truth"] = dict(compare_with_truth(circuit, truths))
        rows.append(row)
    return rows, prompts


def _truths(task: Task) -> Sequence[Tensor]:
    return task.true_circuits.get(task.ablation, [])


def _evaluate(
    model: MaskedTransformer,
    task: Task,
    circuits: Sequence[Circuit],
    pairs: PromptPairs,
    metrics: Mapping[str, Metric],
) -> Prompts:
    # A mean is taken over the prompts that the circuit was found on, as methods take it.
    values = evaluate(
        model, pairs, circuits, metrics=metrics, ablation=task.ablation, mean_over=task.train
    )
    for name, tensor in values.items():
        if not bool(tensor.isfinite().all()):
            raise ArithmeticError(f"metric {name} is not finite on some prompts")
    return values


def _stamped(discovery: Discovery, cell: Cell, model: MaskedTransformer) -> Discovery:
    """The same with its origin in the files' headers."""
    origin = {"model": model.id, "definition": cell.definition()}
    if isinstance(discovery, Circuit | EdgeScores):
        return replace(discovery, meta={**discovery.meta, **origin})
    return [replace(scores, meta={**scores.meta, **origin}) for scores in discovery]


def _sizes(cell: Cell, model: MaskedTransformer, task: Task) -> list[int]:
    """The numbers of edges of the grid and, where they are known, of the true circuits."""
    sizes = {n_edges_at(model.graph, sparsity) for sparsity in cell.sparsities}
    sizes |= {int(truth.sum()) for truth in _truths(task)}
    return sorted(sizes, reverse=True)


def _warm_up(model: MaskedTransformer, task: Task) -> None:
    """A masked forward and backward pass, so that no method pays for first calls."""
    pairs = task.train[:2].to(model.device)
    mask = torch.ones(model.graph.legal.shape, dtype=model.dtype, device=model.device)
    model(pairs.clean, mask.requires_grad_(), targets=pairs.targets).sum().backward()
