"""What a run is to do: models are loaded, prompts made, finished cells known; nothing runs yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from benchmarks.grid.cell import Bench, Cell
from benchmarks.grid.crossing import Crossing
from benchmarks.grid.search import Search
from benchmarks.grid.settings import settings_label
from benchmarks.record import FINISHED
from benchmarks.run.loading import Loader, check_tasks, identify
from benchmarks.store import Store
from edgewise import MaskedTransformer, Method, Task, parallel
from edgewise.batches import batch_tokens

Line = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything identified: its benches know their models and tokenizers."""

    benches: Sequence[Bench]
    cells: Sequence[Cell]
    searches: Sequence[Search]
    crossings: Sequence[Crossing]
    done: Sequence[str]
    """The names of the cells and searches that need not run."""

    @property
    def to_run(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.name not in self.done]


def plan(
    cells: Sequence[Cell],
    searches: Sequence[Search],
    crossings: Sequence[Crossing],
    store: Store,
    loader: Loader,
) -> Plan:
    """Raises ValueError if a model cannot be loaded or the prompts of a task cannot be made."""
    known = identify([*(c.bench for c in cells), *(s.cell.bench for s in searches)], loader)

    def identified(cell: Cell) -> Cell:
        return replace(cell, bench=known[cell.bench])

    cells = list(map(identified, cells))
    searches = [replace(search, cell=identified(search.cell)) for search in searches]
    crossings = [Crossing(identified(pair.first), identified(pair.second)) for pair in crossings]
    found = {record.name for record in store.search_records()}
    names = [cell.name for cell in cells if store.is_done(cell.name)]
    names += [search.name for search in searches if search.name in found]
    done = parallel.from_first(lambda: names)
    needed = [cell for cell in cells if cell.name not in done]
    needed += [search.cell for search in searches if search.name not in done]
    check_tasks(needed, loader)
    return Plan(list(known.values()), cells, searches, crossings, done)


def forecast(plan: Plan, loader: Loader) -> str:
    """A table of the cells with what each may cost, and a line on all of them.

    Work is in forward passes of the training prompts, at most. Memory is the model and the outputs
    of one batch; more is needed for gradients and for what a method keeps.
    """
    rows: list[Line] = []
    for bench in plan.benches:
        for cell in plan.cells:
            if cell.bench == bench:
                rows.append(_row(cell, "to run", loader, is_done=cell.name in plan.done))
        for search in plan.searches:
            if search.cell.bench == bench:
                status = f"search, up to {search.trials} trials"
                rows.append(_row(search.cell, status, loader, is_done=search.name in plan.done))
    work = sum(row["work"] or 0 for row in rows)
    to_run = sum(row["status"] != FINISHED for row in rows)
    table = tabulate([_shown(row) for row in rows], headers="keys", disable_numparse=True)
    return (
        f"{table}\n\n{len(rows)} cells and searches, {to_run} of them to run: "
        f"at most {work:,.0f} forward passes of the training prompts, counting one trial a search"
    )


def _row(cell: Cell, status: str, loader: Loader, *, is_done: bool) -> Line:
    model = loader.model(cell.bench)
    n_train = 0 if is_done else len(loader.task(cell.bench).train)
    method = cell.build()
    return {
        "cell": cell.name,
        "settings": cell.label or _swept(cell, method),
        "edges": model.graph.n_edges,
        "work": None if is_done else method.most_passes(model.graph, n_train),
        "memory": None if is_done else least_bytes(model, loader.task(cell.bench)),
        "status": FINISHED if is_done else status,
    }


def _swept(cell: Cell, method: Method) -> str:
    setting = method.sweeps
    return settings_label({setting: cell.settings[setting]}) if setting else ""


def _shown(row: Line) -> Line:
    work, memory = row["work"], row["memory"]
    return {
        "cell": row["cell"],
        "settings": row["settings"],
        "edges": f"{row['edges']:,}",
        "work, passes": "" if work is None else f"<= {work:,.0f}",
        "memory, MiB": "" if memory is None else f">= {memory / 2**20:,.0f}",
        "status": row["status"],
    }


def least_bytes(model: MaskedTransformer, task: Task) -> int:
    """The model and the outputs of one batch."""
    weights = sum(weight.nbytes for weight in model.architecture.weights().values())
    n_tokens = min(batch_tokens(model), task.train.clean.numel())
    outputs = n_tokens * len(model.graph.writers) * model.architecture.d_model
    return weights + outputs * model.dtype.itemsize
