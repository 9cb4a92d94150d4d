"""One cell from start to end: discovery, timed alone, then its circuits on the test prompts."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.grid.cell import Cell
from benchmarks.record import (
    FINISHED,
    Definition,
    Environment,
    Finished,
    MetricRecord,
    PromptCounts,
    RowRecord,
    Truth,
)
from benchmarks.run import environment
from benchmarks.run.intervals import bootstrap_intervals
from benchmarks.store import Discovery, draws_of, first_of
from benchmarks.warnings import warnings_about
from edgewise import Circuit, EdgeScores, MaskedTransformer, Task, parallel
from edgewise.allocator import keep_freed_memory, release_freed_memory
from edgewise.circuit import n_edges_at
from edgewise.discovery import Checkpoint, Meter
from edgewise.evaluate import compare_with_truth, evaluate
from edgewise.metrics import Metric
from edgewise.prompts import PromptPairs

Values = Float[Tensor, "row prompt"]
Size = tuple[int | None, int]
"""The draw, None of a single ranking, and a number of edges."""


@dataclass(frozen=True)
class Cost:
    """What a discovery cost, and where."""

    seconds: float
    flops: int
    forward_equivalents: float
    peak_bytes: int
    peak_memory_source: str
    environment: Environment


def execute(
    cell: Cell,
    model: MaskedTransformer,
    task: Task,
    checkpoint: Path,
    *,
    every_seconds: float,
    jobs: int = 1,
    trained: tuple[Finished, Discovery] | None = None,
) -> tuple[Finished, Discovery, Values]:
    """The finished cell's record, what was discovered, and the primary metric on the test prompts.

    `trained` is a cell that differs only in what its method does after training, and what it found.
    `jobs` is how many cells were run at a time.
    """
    optional: dict[str, Any] = {"label": cell.label} if cell.label else {}
    if trained is None:
        discovery, cost = discover(
            cell, model, task, checkpoint, every_seconds=every_seconds, jobs=jobs
        )
        notes = dict(first_of(discovery).meta)
    else:
        record, found = trained
        discovery, cost, notes = finish(cell, model, found), cost_of(record), {}
        optional["trained_in"] = record.trained_in or record.name
    if warnings := warnings_about(model, task):
        optional["warnings"] = warnings
    discovery = stamped(discovery, {"model": model.id, "definition": cell.definition()})
    rows, values = evaluate_discovery(cell, model, task, discovery)
    record = Finished(
        name=cell.name,
        status=FINISHED,
        definition=Definition.model_validate(cell.definition()),
        kind="circuit" if isinstance(discovery, Circuit) else "scores",
        model=model.id,
        dtype=cell.bench.dtype,
        graph=model.graph.convention,
        n_edges=model.graph.n_edges,
        ablation=task.ablation,
        n_prompts=PromptCounts(
            train=len(task.train), validation=len(task.validation), test=len(task.test)
        ),
        metrics={
            name: MetricRecord(better=metric.better, unit=metric.unit)
            for name, metric in task.metrics.items()
        },
        primary_metric=task.primary,
        true_circuits=[int(truth.sum()) for truth in _truths(task)],
        rows=rows,
        notes=notes,
        **vars(cost),
        **optional,
    )
    return record, discovery, values


def discover(
    cell: Cell,
    model: MaskedTransformer,
    task: Task,
    checkpoint: Path,
    *,
    every_seconds: float,
    jobs: int = 1,
) -> tuple[Discovery, Cost]:
    """Run the method; only `discover` itself is timed, with warm kernels and empty caches.

    Of several ranks, operations are summed, peak memory is the largest, and time is each one's own.
    """
    method = cell.build()
    generator = torch.Generator(model.device).manual_seed(cell.bench.seed)
    keep_freed_memory()
    _warm_up(model, task)
    release_freed_memory()
    meter = Meter(model)
    saved = Checkpoint(checkpoint, meter, every_seconds=every_seconds)
    with meter.run():
        discovery = method.discover(model, task, generator=generator, checkpoint=saved)
    flops = int(parallel.total(torch.tensor(meter.flops)))
    return discovery, Cost(
        seconds=meter.seconds,
        flops=flops,
        forward_equivalents=flops / model.forward_flops(task.train.lengths),
        peak_bytes=int(parallel.largest(torch.tensor(meter.peak_bytes))),
        peak_memory_source=meter.memory_source,
        environment=environment.describe(model.device, jobs=jobs),
    )


def finish(cell: Cell, model: MaskedTransformer, found: Discovery) -> Discovery:
    """What the cell's method makes of what another cell's training found."""
    return cell.build().finish(first_of(found).extra, model.graph)


def cost_of(record: Finished) -> Cost:
    return Cost(**{field.name: getattr(record, field.name) for field in fields(Cost)})


def evaluate_discovery(
    cell: Cell, model: MaskedTransformer, task: Task, discovery: Discovery
) -> tuple[list[RowRecord], Values]:
    """The cell's rows and its primary metric on prompts, for what was found now or earlier."""
    if isinstance(discovery, Circuit):
        return evaluate_circuits(model, task, [discovery])
    return evaluate_scores(model, task, cut(draws_of(discovery), _sizes(cell, model, task)))


def cut(
    draws: Sequence[EdgeScores], sizes: Iterable[int], known: Container[Size] = ()
) -> dict[Size, Circuit]:
    """The circuits of these sizes, without those of the sizes that are `known`.

    A connected ranking may reach the same size for several that are asked for. It then gives the
    same circuit.
    """
    circuits: dict[Size, Circuit] = {}
    for place, scores in enumerate(draws):
        for size in sizes:
            circuit = scores.circuit(size)
            reached = (place if len(draws) > 1 else None), circuit.n_edges
            if reached not in known:
                circuits[reached] = circuit
    return circuits


def evaluate_scores(
    model: MaskedTransformer, task: Task, cuts: Mapping[Size, Circuit]
) -> tuple[list[RowRecord], Values]:
    """One row per circuit cut from one ranking or from several draws.

    A single ranking also gets the primary metric's mean on the validation pairs, by which a report
    can choose among a method's variants without a look at the test prompts.
    """
    circuits, draws = list(cuts.values()), [draw for draw, _ in cuts]
    rows, primary = evaluate_circuits(model, task, circuits)
    if draws[0] is not None:
        own = [{"draw": draw} for draw in draws]
    else:
        metric = task.primary
        chosen = {metric: task.metrics[metric]}
        values = _evaluate(model, task, circuits, task.validation, chosen)[metric]
        own = [{"validation": {metric: mean}} for mean in values.double().mean(1).tolist()]
    return [row.model_copy(update=new) for row, new in zip(rows, own, strict=True)], primary


def evaluate_circuits(
    model: MaskedTransformer, task: Task, circuits: Sequence[Circuit]
) -> tuple[list[RowRecord], Values]:
    """One row per circuit, and the primary metric on every test prompt."""
    values = _evaluate(model, task, circuits, task.test, task.metrics)
    means = {name: by_prompt.double().mean(1).tolist() for name, by_prompt in values.items()}
    ends = {name: bootstrap_intervals(by_prompt) for name, by_prompt in values.items()}
    truths = _truths(task)
    rows: list[RowRecord] = []
    for position, circuit in enumerate(circuits):
        row = RowRecord(
            edges=circuit.n_edges,
            sparsity=circuit.sparsity,
            live_sparsity=circuit.live_sparsity(task.ablation),
            metrics={name: of_rows[position] for name, of_rows in means.items()},
            intervals={name: of_rows[position] for name, of_rows in ends.items()},
        )
        if truths:
            truth = Truth(**compare_with_truth(circuit, truths))
            row = row.model_copy(update={"truth": truth})
        rows.append(row)
    return rows, values[task.primary]


def _truths(task: Task) -> Sequence[Tensor]:
    return task.true_circuits.get(task.ablation, [])


def _evaluate(
    model: MaskedTransformer,
    task: Task,
    circuits: Sequence[Circuit],
    pairs: PromptPairs,
    metrics: Mapping[str, Metric],
) -> dict[str, Values]:
    # A mean is taken over the prompts that the circuit was found on, as methods take it.
    values = evaluate(
        model, pairs, circuits, metrics=metrics, ablation=task.ablation, mean_over=task.train
    )
    for name, tensor in values.items():
        if not bool(tensor.isfinite().all()):
            raise ArithmeticError(f"metric {name} is not finite on some prompts")
    return values


def stamped(discovery: Discovery, origin: Mapping[str, Any]) -> Discovery:
    """The same with its origin in the files' headers."""
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
