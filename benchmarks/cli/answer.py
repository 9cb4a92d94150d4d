"""What a comparison prints: each method's value at the sparsities asked for, best ones first."""

from collections.abc import Collection, Sequence
from statistics import fmean

from tabulate import tabulate

from benchmarks.report.panels import Panel, Row, grouped
from benchmarks.report.results import Results

MOST_COLUMNS = 6


def answer(results: Results, cells: Collection[str]) -> str:
    """A table for each panel with one of the `cells`.

    Rankings are shown at sparsities of the grid, circuits at their own. Of a ranking's variants, it
    has the one best on the validation prompts. Values are means over seeds and draws.
    """
    panels = [panel for panel in results.panels if any(one.name in cells for one in panel.records)]
    return "\n\n".join(map(_table, panels))


def _table(panel: Panel) -> str:
    record = panel.records[0]
    grid = _columns(panel)
    lines = []
    for method, rows in grouped(panel.rows, lambda row: row.method).items():
        found = [row for row in rows if row.is_found]
        for setting, alike in grouped(found, lambda row: row.setting).items():
            lines.append({"method": f"{method} {setting}".strip(), **_of_circuits(panel, alike)})
        ranked = [row for row in rows if not (row.is_found or row.is_matched)]
        if ranked:
            has_draws = ranked[0].draw is not None
            best = ranked[0].variant if has_draws else panel.best(ranked)
            chosen = [row for row in ranked if row.variant == best]
            values = {f"{100 * at:g} %": _mean_at(panel, chosen, at) for at in grid}
            lines.append({"method": f"{method} {best}".strip(), **values})
    metric = record.metrics[panel.metric]
    head = f"{panel.title}: {metric.unit}, {metric.better} is better; by sparsity"
    order = ["method", "sparsity", "value", *(f"{100 * at:g} %" for at in grid)]
    names = [name for name in order if any(name in line for line in lines)]
    cells = [[line.get(name, "") for name in names] for line in lines]
    return f"{head}\n\n{tabulate(cells, names, disable_numparse=True)}"


def _columns(panel: Panel) -> list[float]:
    """Some sparsities of the grid, above 0, with the sparsest."""
    grid = sorted({at for record in panel.records for at in record.definition.sparsities if at})
    step = -(-len(grid) // MOST_COLUMNS)
    return sorted(grid[::-1][:: max(1, step)])


def _of_circuits(panel: Panel, rows: Sequence[Row]) -> dict[str, str]:
    return {
        "sparsity": f"{100 * fmean(row.sparsity for row in rows):.1f} %",
        "value": f"{fmean(row.metrics[panel.metric].mean for row in rows):.3g}",
    }


def _mean_at(panel: Panel, rows: Sequence[Row], sparsity: float) -> str:
    """At the number of edges nearest to the sparsity."""
    edges = round((1 - sparsity) * panel.n_edges)
    nearest = min({row.edges for row in rows}, key=lambda number: abs(number - edges))
    values = [row.metrics[panel.metric].mean for row in rows if row.edges == nearest]
    return f"{fmean(values):.3g}"
