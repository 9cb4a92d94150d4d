"""Results in Python: a folder as a pandas frame, curves, circuits and figures."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from matplotlib.figure import Figure
from pandas import DataFrame

from benchmarks.names import unknown
from benchmarks.record import Finished
from benchmarks.report.figures.paper import inches_of, paper_figure
from benchmarks.report.panels import Panel, grouped
from benchmarks.report.results import Results
from benchmarks.store import draws_of
from edgewise import Circuit, EdgeScores

_OF_CURVE = ["method", "setting", "variant", "edges", "sparsity"]


class LoadedResults:
    """A folder of results, read once."""

    def __init__(self, folder: str | Path) -> None:
        """Raises ValueError if the folder holds no results, or some of another version."""
        self.results = Results(Path(folder))

    @property
    def tasks(self) -> list[str]:
        """What `frame` and figures call tasks: a name for each task, model and condition."""
        return [panel.title for panel in self.results.panels]

    @property
    def methods(self) -> list[str]:
        """The methods that have results."""
        rows = (row for panel in self.results.panels for row in panel.rows)
        return list(dict.fromkeys(row.method for row in rows))

    @cached_property
    def frame(self) -> DataFrame:
        """One line per circuit and metric.

        `value` is the mean over the test prompts, and `low` and `high` are its 95 % bootstrap
        interval. `cell` is the name of the cell, for `circuit`. `sparsity` and `live_sparsity` are
        shares from 0 to 1. `is_found` tells circuits that a method found from those that were cut
        from a ranking, and `is_matched` those cut to the size of another method's circuit.
        """
        return DataFrame(self.results.frame().infer_objects())

    def curve(self, task: str, metric: str | None = None) -> DataFrame:
        """A metric (default: the primary one) on one task, by method, setting and size.

        `value` is the mean over `n` seeds and draws. `low` and `high` are their range or, of one,
        the 95 % interval over prompts. Raises ValueError for a task or a metric that the results
        do not have.
        """
        panel = self.panel(task)
        metric = _metric_of(panel, metric)
        lines: list[dict[str, Any]] = []
        alike = grouped(panel.rows, lambda row: tuple(getattr(row, name) for name in _OF_CURVE))
        for key, rows in alike.items():
            values = [row.metrics[metric].mean for row in rows]
            low, high = (min(values), max(values)) if len(rows) > 1 else rows[0].metrics[metric][1:]
            of_rows = {"value": fmean(values), "low": low, "high": high, "n": len(rows)}
            lines.append({**dict(zip(_OF_CURVE, key, strict=True)), **of_rows})
        return DataFrame(sorted(lines, key=lambda line: [line[name] for name in _OF_CURVE]))

    def circuit(self, cell: str, edges: int | None = None) -> Circuit:
        """What a cell found: its circuit, or its ranking cut to a number of edges.

        Of several rankings, the first. Raises ValueError for a cell that has no result, and where
        `edges` is missing, out of range or given for a circuit.
        """
        found = self._found(cell)
        if isinstance(found, Circuit):
            if edges is not None:
                raise ValueError(f"{cell} is a circuit of {found.n_edges:,} edges; leave edges out")
            return found
        if edges is None or not 0 <= edges <= found.graph.n_edges:
            raise ValueError(
                f"edges is {edges}; {cell} is a ranking: expected a number from 0 to "
                f"{found.graph.n_edges:,}"
            )
        return found.circuit(edges)

    def _found(self, cell: str) -> Circuit | EdgeScores:
        store = self.results.store
        if not isinstance(store.record(cell), Finished):
            names = [record.name for panel in self.results.panels for record in panel.records]
            raise ValueError(unknown("cell", cell, names))
        found = store.discovery(cell)
        return found if isinstance(found, Circuit) else draws_of(found)[0]

    def panel(self, task: str) -> Panel:
        """Everything on one task.

        Raises ValueError for a task that the results do not have.
        """
        panels = {panel.title: panel for panel in self.results.panels}
        if task not in panels:
            raise ValueError(unknown("task of these results", task, self.tasks))
        return panels[task]


def load_results(folder: str | Path) -> LoadedResults:
    """The results in a folder that `edgewise run`, `compare` or `discover` wrote.

    Raises ValueError if there are none, or some are of another version.
    """
    return LoadedResults(folder)


def plot(
    results: LoadedResults,
    *,
    task: str | Iterable[str] | None = None,
    metric: str | None = None,
    methods: Iterable[str] | None = None,
    width: Literal["column", "text"] | float = "text",
) -> Figure:
    """A metric against sparsity, a panel for each task, as a matplotlib figure.

    Default: all tasks, their primary metric and all methods. `width` is in inches, or that of a
    paper's column or text. Raises ValueError for a task, metric or method that the results do not
    have, for a width that is none, and where the tasks' primary metrics differ.
    """
    inches = inches_of(width)
    names = results.tasks if task is None else [task] if isinstance(task, str) else list(task)
    panels = [_of_methods(results.panel(name), results, methods) for name in names]
    if not panels:
        raise ValueError("no task to plot; expected at least one")
    chosen = sorted({_metric_of(panel, metric) for panel in panels})
    if len(chosen) > 1:
        raise ValueError(f"the tasks' metrics are {', '.join(chosen)}; name one of them")
    return paper_figure(panels, chosen[0], inches)[0]


def _of_methods(panel: Panel, results: LoadedResults, methods: Iterable[str] | None) -> Panel:
    """The panel with these methods' rows. Raises ValueError for one that has none anywhere."""
    if methods is None:
        return panel
    wanted = [methods] if isinstance(methods, str) else list(methods)
    for method in wanted:
        if method not in results.methods:
            raise ValueError(unknown("method of these results", method, results.methods))
    rows = [row for row in panel.rows if row.method in wanted]
    if not rows:
        raise ValueError(f"no result of {', '.join(wanted) or 'no method'} on {panel.title}")
    records = [record for record in panel.records if record.definition.method in wanted]
    return replace(panel, records=records, rows=rows)


def _metric_of(panel: Panel, metric: str | None) -> str:
    """Raises ValueError for a metric that the panel does not have."""
    known = panel.records[0].metrics
    if metric is not None and metric not in known:
        raise ValueError(unknown(f"metric of {panel.title}", metric, known))
    return panel.metric if metric is None else metric
