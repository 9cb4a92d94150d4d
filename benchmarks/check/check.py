"""The check: the cells of the suite `reference` run again, every number beside its stored value.

results/reference holds, for each cell, its record and what it found; `edgewise check --record`
writes them. Everything runs on the CPU. What is compared, and how closely:

- Stored circuits are evaluated again, and every method is run again with the same seed. Except for
  circuits cut from trained masks, scores, circuits and counts (such as ACDC's tested edges) are
  compared. Circuits and whole numbers must be identical, other numbers within 1e-4, the rounding of
  float32. Trainings that end in a ranking are so short here that this holds for them, too.
- Circuits cut from trained masks are compared by their primary metric and number of edges, since
  a long training enlarges any difference in rounding. The recording repeats the training at the
  same seed on 1, 2 and 4 threads, and with weights moved at random by a float32's rounding, as
  another processor or another order of summation would round. The expected value is the repeats'
  mean. The tolerance is twice the largest distance of a repeat from it, and at least 1 % of it and
  1e-4. A cell is refused if twice that distance exceeds both 20 % of the mean and 1e-4. All repeats
  are stored beside the tolerance.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import TypeAdapter

from benchmarks.files import check_files, read_record, records_in
from benchmarks.grid.cell import Cell
from benchmarks.grid.settings import settings_label, swept
from benchmarks.record import FINISHED, Damaged, Reference, Result, RowRecord, Unfinished
from benchmarks.run.execute import discover, evaluate_discovery
from benchmarks.run.loading import Loader, identify_cells
from benchmarks.store import Discovery, Store, draws_of, first_of
from edgewise import Circuit, EdgeScores, MaskedTransformer, Task
from edgewise.progress import track

SUITE = "reference"
REFERENCE = Path(__file__).parents[2] / "results" / SUITE
DEVICE = torch.device("cpu")
"""Where the values hold: a seed gives other numbers on an accelerator."""
EXACT = 1e-4
"""Tolerance for numbers that the same seed reproduces."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One number that is not what it was; as text, one line."""

    task: str
    method: str
    metric: str
    expected: Any
    got: Any
    tolerance: float

    def __str__(self) -> str:
        expected, got = (
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in (self.expected, self.got)
        )
        return (
            f"task {self.task}, method {self.method}, metric {self.metric}: "
            f"expected {expected}, got {got}, tolerance {self.tolerance:.3g}"
        )


def check(cells: Iterable[Cell], *, reference: Path = REFERENCE) -> list[Difference]:
    """Run reference cells again and compare. A cell that fails is a difference, too.

    Raises ValueError for a cell that has no reference values.
    """
    store, loader = Store(reference), Loader(DEVICE)
    known = identify_cells(cells, loader)
    records = {record.name: record for record in references(reference)}
    missing = [cell.name for cell in known if cell.name not in records]
    if missing:
        raise ValueError(
            f"no values of {len(missing)} cells in {reference}, such as {missing[0]}: what defines "
            "them has changed; `edgewise check --record` writes them anew"
        )
    differences: list[Difference] = []
    for cell in track(known, "reference cells"):
        record, stored = records[cell.name], store.discovery(cell.name)
        try:
            model, task = loader.model(cell.bench), loader.task(cell.bench)
            differences += _check_cell(cell, model, task, record, stored)
        except Exception as error:
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            differences.append(_difference(record, "outcome", FINISHED, failure))
    return differences


def check_folder(
    results: Path, *, only: str | None = None, reference: Path = REFERENCE
) -> tuple[int, list[Difference]]:
    """Compare the reference cells in a results folder; how many it holds, and the differences.

    One that it lacks is a difference, too. `only` keeps one method's cells.
    Raises ValueError if the folder holds none.
    """
    store, theirs = Store(reference), Store(results)
    differences: list[Difference] = []
    n_compared = 0
    for record in references(reference):
        name = record.name
        if only not in (None, record.definition.method):
            continue
        other = theirs.record(name)
        n_compared += other is not None
        if other is None:
            differences.append(_difference(record, "outcome", FINISHED, f"no cell {name}"))
        elif isinstance(other, Damaged):
            differences.append(_difference(record, "outcome", FINISHED, other.problem))
        elif isinstance(other, Unfinished):
            differences.append(_difference(record, "outcome", FINISHED, other.status))
        elif record.anew:
            differences += compare_anew(record, other)
        else:
            differences += compare_evaluation(record, other.rows, "")
            differences += compare_discovery(
                record, store.discovery(name), theirs.discovery(name), other.notes
            )
    if not n_compared:
        raise ValueError(
            f"no reference cell in {results}; `edgewise run {SUITE} --out {results}` runs them"
        )
    return n_compared, differences


def references(folder: Path) -> list[Reference]:
    """The records of reference cells.

    Raises ValueError if the folder is missing, or a record in it is damaged or no reference.
    """
    if not folder.is_dir():
        raise ValueError(f"no reference values in {folder}: they come with a clone, not a package")
    kind, found = TypeAdapter(Reference), list[Reference]()
    for path in records_in(Store(folder).cells):
        record = read_record(path, kind)
        check_files(path, record.files)
        found.append(record)
    return found


def _check_cell(
    cell: Cell, model: MaskedTransformer, task: Task, record: Reference, stored: Discovery
) -> list[Difference]:
    """What was stored, evaluated again; then the same found anew."""
    rows, _ = evaluate_discovery(cell, model, task, stored)
    differences = compare_evaluation(record, rows, " of the stored circuit")
    found = discover_anew(cell, model, task)
    if not record.anew:
        notes = first_of(found).meta
        return differences + compare_discovery(record, stored, found, notes)
    rows, _ = evaluate_discovery(cell, model, task, found)
    return differences + compare_anew(record, record.model_copy(update={"rows": rows}))


def discover_anew(cell: Cell, model: MaskedTransformer, task: Task) -> Discovery:
    """What the cell's method finds now."""
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"
        found, _ = discover(cell, model, task, checkpoint, every_seconds=math.inf)
    return found


def compare_evaluation(record: Result, rows: Sequence[RowRecord], of_what: str) -> list[Difference]:
    """The rows of the same circuits, number by number."""
    names = {name: f"{name}{of_what}" for name in _values(record.rows) | _values(rows)}
    return _compare(record, _values(record.rows), _values(rows), names)


def compare_discovery(
    record: Result, stored: Discovery, found: Discovery, notes: Mapping[str, Any]
) -> list[Difference]:
    """Circuits edge by edge, rankings score by score, and the method's own counts."""
    differences = _compare(record, record.notes, {name: notes.get(name) for name in record.notes})
    if isinstance(stored, Circuit) != isinstance(found, Circuit):
        return [*differences, _difference(record, "kind", record.kind, type(found).__name__)]
    if isinstance(stored, Circuit):
        assert isinstance(found, Circuit)
        n_changed = int((stored.mask ^ found.mask).sum())
        return differences + _compare(record, {"edges changed": 0}, {"edges changed": n_changed})
    for draw, (old, new) in enumerate(zip(draws_of(stored), draws_of(found), strict=True)):
        where = f", draw {draw}" if draw else ""
        differences += _compare_scores(record, old, new, where)
    return differences


def compare_anew(record: Reference, other: Result) -> list[Difference]:
    """A circuit that was found anew, within the measured tolerances."""
    got = anew_values(other)
    return [
        _difference(
            record,
            f"{name} of the circuit found anew",
            known.expected,
            got[name],
            known.tolerance,
        )
        for name, known in record.anew.items()
        if not abs(got[name] - known.expected) <= known.tolerance
    ]


def anew_values(record: Result) -> dict[str, float]:
    """What is compared of a circuit that is not found edge for edge."""
    (row,) = record.rows
    metric = record.primary_metric
    return {metric: row.metrics[metric], "edges": float(row.edges)}


def _compare_scores(
    record: Result, old: EdgeScores, new: EdgeScores, where: str
) -> list[Difference]:
    """The score that is farthest off, of the ranking and of each tensor kept beside it.

    Such a tensor has a number for each edge or for each writer.
    """
    differences: list[Difference] = []
    graph = old.graph
    for kind, before in {"score": old.values, **old.extra}.items():
        after = (new.values if kind == "score" else new.extra[kind]).cpu()
        if before.shape == graph.legal.shape:
            before, after = before[graph.legal], after[graph.legal]
            names = graph.edge_names(graph.legal)
        else:
            names = graph.writers
        distance = (before - after).abs().nan_to_num(math.inf)
        worst = int(distance.argmax())
        if distance[worst] > EXACT:
            metric = f"{kind} of {names[worst]}{where}"
            expected, got = float(before[worst]), float(after[worst])
            differences.append(_difference(record, metric, expected, got, EXACT))
    return differences


def _values(rows: Iterable[RowRecord]) -> Values:
    """All numbers of a record's rows, by names that tell the rows apart."""
    values: Values = {}
    for row in rows:
        has_draw = row.draw is not None
        where = f" at {row.edges} edges" if row.validation or has_draw else ""
        where += f", draw {row.draw}" if has_draw else ""
        numbers = {
            "edges": row.edges,
            "live_sparsity": row.live_sparsity,
            **row.metrics,
            **{f"{name} on validation prompts": value for name, value in row.validation.items()},
            **(row.truth.as_json() if row.truth else {}),
        }
        values |= {f"{name}{where}": value for name, value in numbers.items()}
    return values


def _compare(
    record: Result, expected: Mapping[str, Any], got: Values, names: Mapping[str, str] | None = None
) -> list[Difference]:
    """Whole numbers are identical, others within `EXACT`; a name that one side lacks differs."""
    differences: list[Difference] = []
    for name in {**expected, **got}:
        old, new = expected.get(name), got.get(name)
        tolerance = 0.0 if isinstance(old, int) else EXACT
        if old is None or new is None or not abs(old - new) <= tolerance:
            metric = name if names is None else names[name]
            differences.append(_difference(record, metric, old, new, tolerance))
    return differences


def _difference(
    record: Result, metric: str, expected: Any, got: Any, tolerance: float = 0.0
) -> Difference:
    method = record.definition.method
    turned = swept(method)
    shown = {turned: record.definition.settings[turned]} if turned else {}
    return Difference(
        f"{record.definition.task} ({record.ablation} ablation)",
        f"{method} {settings_label(shown)}".rstrip(),
        metric,
        expected,
        got,
        tolerance,
    )
