"""What cells will cost, from a short measured probe of each model and task.

A probe times a masked forward pass and a training step on a few prompts. A step has about as much
work as four forward passes. The time of a discovery is the slower of a pass and a quarter of a
step, times the largest number of passes that the method says it needs. For a search, also for one
inside a wrapper, a short one is run and tells the number of passes
(benchmarks/run/search_probe.py). Circuits are then evaluated, each in a forward pass of
the test prompts, and those of a ranking on the validation prompts, too.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate

from benchmarks.grid.cell import Bench, Cell
from benchmarks.run.loading import Loader
from benchmarks.run.plan import Plan, least_bytes, plan
from benchmarks.run.search_probe import PROMPTS, SearchCost, probe_search, searches_of
from benchmarks.store import Store
from edgewise import MaskedTransformer, Method, Task
from edgewise.allocator import keep_freed_memory, release_freed_memory
from edgewise.batches import Batches
from edgewise.discovery import synchronize
from methods import METHODS

PROBED = 16
"""How many prompts a probe takes."""
REPEATS = 3
PASSES_OF_STEP = 4

Measured = tuple[object, ...]
"""What a speed was measured for."""


@dataclass(frozen=True)
class Speed:
    """Seconds per prompt of a masked forward pass, and of a pass with its share of gradients."""

    forward: float
    mean: float


class Discovery(NamedTuple):
    """About what one discovery costs at most; `passes` is None where the method does not say."""

    passes: float | None
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """About what one cell costs at most; `passes` is None where the method does not say."""

    cell: Cell
    passes: float | None
    discovery_seconds: float
    evaluation_seconds: float
    least_bytes: int

    @property
    def seconds(self) -> float:
        return self.discovery_seconds + self.evaluation_seconds


def estimates_of(
    suites: Mapping[str, Sequence[Cell]], folder: Path, loader: Loader
) -> dict[str, list[Estimate]]:
    """Of each suite's cells, whether or not they are finished in the folder.

    Raises ValueError as a run does, for a model that cannot be loaded and prompts that cannot be
    made.
    """
    store = Store(folder)
    plans = {name: plan(cells, (), (), store, loader) for name, cells in suites.items()}
    known = Probes({}, {})
    return {name: _estimate(planned, loader, known) for name, planned in plans.items()}


@dataclass(frozen=True)
class Probes:
    """What was measured: the speed of each bench and, by its settings, what a search costs."""

    speeds: dict[Measured, Speed]
    searches: dict[Measured, SearchCost | None]


def _estimate(plan: Plan, loader: Loader, known: Probes) -> list[Estimate]:
    found: list[Estimate] = []
    for bench in plan.benches:
        cells = [cell for cell in plan.cells if cell.bench == bench]
        if not cells:
            continue
        model, task = loader.model(bench), loader.task(bench)
        key = _key(bench)
        if key not in known.speeds:
            known.speeds[key] = probe(model, task)
        speed = known.speeds[key]
        for cell in cells:
            method = cell.build()
            costs = [
                (search, cost)
                for search in searches_of(method)
                if (cost := _search_cost(search, bench, model, task, known)) is not None
            ]
            discovery = discovery_of(method, model, task, speed, costs)
            found.append(_of_cell(cell, model, task, speed, discovery, cells))
    return found


def _search_cost(
    search: Method, bench: Bench, model: MaskedTransformer, task: Task, known: Probes
) -> SearchCost | None:
    """For a search that comes with the package; a user's own code runs only in its cell."""
    if search.name not in METHODS:
        return None
    key = (*_key(bench), search)
    if key not in known.searches:
        known.searches[key] = probe_search(search, model, task)
    return known.searches[key]


def _key(bench: Bench) -> Measured:
    """Benches with the same model and kind of prompts are equally fast."""
    return bench.model, bench.task, bench.dtype, bench.ablation


def probe(model: MaskedTransformer, task: Task) -> Speed:
    """Measure it on the first prompts; the first, cold, pass and step do not count."""
    keep_freed_memory()  # as a discovery does
    batches = Batches(model, task.train[:PROBED], task.ablation)
    batch = batches.batch(torch.arange(len(batches.pairs), device=batches.pairs.clean.device))
    given = batch.tokens, batch.ablated, batch.targets, batch.prefix
    shape = model.graph.legal.shape

    def forward() -> torch.Tensor:
        mask = torch.ones(shape, dtype=model.dtype, device=model.device, requires_grad=True)
        tokens, ablated, targets, prefix = given
        return task.training_loss(
            model(tokens, mask, ablated, targets, prefix), batch.full_logits, batch.pairs
        ).sum()

    with torch.no_grad():
        pass_seconds = _timed(forward, model.device)
    step_seconds = _timed(lambda: forward().backward(), model.device)
    release_freed_memory()
    n_prompts = len(batches.pairs)
    mean = max(pass_seconds, step_seconds / PASSES_OF_STEP)
    return Speed(pass_seconds / n_prompts, mean / n_prompts)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """The median of a few repeats, after one that is not counted."""
    seconds: list[float] = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[REPEATS // 2]


def discovery_of(
    method: Method,
    model: MaskedTransformer,
    task: Task,
    speed: Speed,
    costs: Sequence[tuple[Method, SearchCost]],
) -> Discovery:
    """What a method says it needs at most, with the probed `costs` of each search that it runs."""
    n_train, overhead = len(task.train), 0.0
    passes = method.most_passes(model.graph, n_train)
    if passes is None:
        return Discovery(None, 0.0)
    for search, cost in costs:
        most = search.most_passes(model.graph, n_train) or 0.0
        passes -= most * (1 - cost.passes / cost.most)
        # A search runs small passes one after the other, so it takes longer than its products.
        products = cost.passes * min(n_train, PROMPTS) * speed.mean
        overhead += max(0.0, cost.seconds - products)
    return Discovery(passes, overhead + passes * n_train * speed.mean)


def _of_cell(
    cell: Cell,
    model: MaskedTransformer,
    task: Task,
    speed: Speed,
    discovery: Discovery,
    others: Sequence[Cell],
) -> Estimate:
    # Rankings are also cut to the sizes of the bench's circuits.
    circuits = sum(other.build().gives == "a circuit" for other in others)
    sizes = len(cell.sparsities) + len(task.true_circuits.get(task.ablation, ()))
    evaluated = {
        "a circuit": len(task.test),
        "a ranking": (sizes + circuits) * (len(task.test) + len(task.validation)),
        "several rankings": (sizes + circuits) * cell.settings.get("draws", 1) * len(task.test),
    }[cell.build().gives]
    return Estimate(
        cell,
        discovery.passes,
        discovery.seconds,
        evaluated * speed.forward,
        least_bytes(model, task),
    )


def summary(estimates: Sequence[Estimate]) -> str:
    """A line for each method, and one on all of them."""
    by_method: dict[str, list[Estimate]] = {}
    for one in estimates:
        by_method.setdefault(one.cell.method, []).append(one)
    lines = [
        {
            "method": method,
            "cells": len(own),
            "discovery": _at_most([one.discovery_seconds for one in own], own),
            "evaluation": in_words(sum(one.evaluation_seconds for one in own)),
        }
        for method, own in by_method.items()
    ]
    table = tabulate(lines, "keys", colalign=("left", "right", "right", "right"))
    cells = f"{len(estimates)} cell{'s' if len(estimates) > 1 else ''}"
    memory = max(1.0, max(one.least_bytes for one in estimates) / 2**20)
    return (
        f"{table}\n{cells}: at most about {in_words(total_seconds(estimates))} on this machine, "
        f"memory at least {memory:,.0f} MiB"
    )


def total_seconds(estimates: Sequence[Estimate]) -> float:
    """Of all cells, one after the other."""
    return sum(one.seconds for one in estimates)


def _at_most(seconds: Sequence[float], estimates: Sequence[Estimate]) -> str:
    if any(one.passes is None for one in estimates):
        return "not known"
    return in_words(sum(seconds))


def in_words(seconds: float) -> str:
    """A time in the largest unit of which there is at least one."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
