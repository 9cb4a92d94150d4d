"""Recording: the reference cells run and repeated, their values and tolerances written.

A recording is whole or not at all. It is refused where the same seed does not give the same result
on every number of threads, or, for circuits compared within a tolerance, where the repeats lie
farther apart than the check allows (its rules stand in `benchmarks.check.check`). Numbers are
rounded to six significant digits, so that a new recording changes only the lines of values that
moved.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.check.check import (
    DEVICE,
    EXACT,
    REFERENCE,
    anew_values,
    compare_discovery,
    compare_evaluation,
)
from benchmarks.grid.cell import Cell
from benchmarks.record import Finished, Reference
from benchmarks.run.execute import execute
from benchmarks.run.loading import Loader, identify_cells
from benchmarks.store import Discovery, Store
from edgewise import Circuit, MaskedTransformer, Task
from edgewise.progress import track
from methods import METHODS

THREADS = (1, 2, 4)
ROUNDINGS = 2
"""How often training is repeated with weights that are rounded otherwise."""
SPREADS, LEAST, MOST = 2.0, 0.01, 0.2
"""A tolerance in spreads of the repeats, and its least and most as parts of the value."""

_ROUNDED = ("rows", "notes", "anew")


def record_reference(
    cells: Iterable[Cell], *, folder: Path = REFERENCE, threads: Sequence[int] = THREADS
) -> None:
    """Run every cell on each number of threads and write its values; other cells' are removed.

    Raises ValueError, with a line for every cell that is not steady, and then writes nothing.
    """
    loader = Loader(DEVICE)
    recorded: list[tuple[Reference, Discovery]] = []
    problems: list[str] = []
    for cell in track(identify_cells(cells, loader), "reference cells"):
        try:
            model, task = loader.model(cell.bench), loader.task(cell.bench)
            recorded.append(_record(cell, model, task, threads))
        except ValueError as error:
            problems.append(f"{cell.name}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    store = Store(folder)
    store.cells.mkdir(parents=True, exist_ok=True)
    for path in store.cells.glob("*.*"):
        if path.is_file():
            path.unlink()
    for record, discovery in recorded:
        store.write(record, discovery)


def _record(
    cell: Cell, model: MaskedTransformer, task: Task, threads: Sequence[int]
) -> tuple[Reference, Discovery]:
    """The cell's record and discovery on the fewest threads, with what the repeats gave."""
    fewest, *others = sorted(set(threads))
    first, discovery = _run(cell, model, task, fewest)
    repeats = {n_threads: _run(cell, model, task, n_threads) for n_threads in others}
    fields = {
        name: value for name, value in first.as_json().items() if name in Reference.model_fields
    }
    if METHODS[cell.method].family == "masks" and isinstance(discovery, Circuit):
        values = {_threads(fewest): anew_values(first)}
        values |= {_threads(n): anew_values(repeat) for n, (repeat, _) in repeats.items()}
        for number in range(1, 1 + ROUNDINGS):
            with rounded_otherwise(model, number):
                repeat, _ = _run(cell, model, task, fewest)
            values[f"rounding {number}"] = anew_values(repeat)
        fields["anew"] = {
            name: _tolerance(name, {label: repeat[name] for label, repeat in values.items()})
            for name in anew_values(first)
        }
    else:
        for n_threads, (repeat, found) in repeats.items():
            differences = [
                *compare_evaluation(first, repeat.rows, ""),
                *compare_discovery(first, discovery, found, repeat.notes),
            ]
            if differences:
                raise ValueError(
                    f"{_threads(n_threads)} give another result than {fewest}, such as "
                    f"{differences[0]}; expected a cell that is steady"
                )
    for row in fields["rows"]:
        del row["intervals"]  # no one reads those of reference cells
    rounded = {name: _rounded(fields[name]) for name in _ROUNDED if name in fields}
    return Reference.model_validate({**fields, **rounded}), discovery


def _run(
    cell: Cell, model: MaskedTransformer, task: Task, n_threads: int
) -> tuple[Finished, Discovery]:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.safetensors"
            record, discovery, _ = execute(cell, model, task, checkpoint, every_seconds=math.inf)
    finally:
        torch.set_num_threads(before)
    return record, discovery


@contextmanager
def rounded_otherwise(model: MaskedTransformer, seed: int) -> Iterator[None]:
    """Every weight moved at random by about the spacing of the dtype's numbers around it."""
    generator = torch.Generator().manual_seed(seed)
    weights = [w for w in model.architecture.weights().values() if w.is_floating_point()]
    before = [weight.clone() for weight in weights]
    spacing = torch.finfo(model.dtype).eps
    for weight in weights:
        noise = 2 * torch.rand(weight.shape, generator=generator) - 1
        weight.mul_(1 + spacing * noise.to(weight))
    try:
        yield
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)


def _tolerance(name: str, repeats: dict[str, float]) -> dict[str, Any]:
    """The repeats' mean and what may be off. Raises ValueError where that is too much."""
    mean = math.fsum(repeats.values()) / len(repeats)
    spread = max(abs(value - mean) for value in repeats.values())
    if SPREADS * spread > max(MOST * abs(mean), EXACT):
        values = ", ".join(f"{value:.4g} ({label})" for label, value in repeats.items())
        raise ValueError(
            f"repeats give a {name} of {values}; expected none farther from their mean than "
            f"{MOST / SPREADS:.0%} of it"
        )
    tolerance = max(SPREADS * spread, LEAST * abs(mean), EXACT)
    return {"expected": mean, "tolerance": tolerance, "repeats": repeats}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"
