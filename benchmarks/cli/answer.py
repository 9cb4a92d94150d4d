"""What a comparison prints: each method's value at the sparsities asked for."""

from collections.abc import Collection, Sequence
from statistics import fmean

from tabulate import tabulate

from benchmarks.report.panels import Panel, Row, grouped
from benchmarks.report.results import Results

MOST_COLUMNS = 6


def answer(results: Results, cells: Collection[str]) -> str:
    """A table for each panel with one of the `cells`.

    Rankings are shown at sparsities of the grid, circuits at their own. Of a ranking's variants, it
    has the one best on the validation prompts. Values are means over seeds and draws. A ranking
    that was not cut at a column's sparsity has none there.
    """
    panels = [panel for panel in results.panels if any(one.name in cells for one in panel.records)]
    return "\n\n".join(_table(panel, cells) for panel in panels)


def _table(panel: Panel, cells: Collection[str]) -> str:
    lines: list[dict[str, str]] = []
    rows = _of_files_as_run(panel, cells)
    rankings = _rankings(panel, rows)
    columns = _columns(panel, [{row.edges for row in chosen} for chosen in rankings.values()])
    for method, of_method in grouped(rows, lambda row: row.method).items():
        found = [row for row in of_method if row.is_found]
        for setting, alike in grouped(found, lambda row: row.setting).items():
            lines.append({"method": f"{method} {setting}".strip(), **_of_circuits(panel, alike)})
        if chosen := rankings.get(method):
            name = f"{method} {chosen[0].variant}".strip()
            lines.append({"method": name, **_of_ranking(panel, chosen, columns)})
    metric = panel.records[0].metrics[panel.metric]
    head = f"{panel.title}: {metric.unit}, {metric.better} is better; by sparsity"
    order = ["method", "sparsity", "value", *map(_percent, columns)]
    names = [name for name in order if any(name in line for line in lines)]
    texts = [[line.get(name, "") for name in names] for line in lines]
    return f"{head}\n\n{tabulate(texts, names, disable_numparse=True)}"


def _of_files_as_run(panel: Panel, cells: Collection[str]) -> list[Row]:
    """Without the rows of a method's file as it was before, where the `cells` have it as it is."""
    codes = {one.name: (one.definition.method, one.definition.code) for one in panel.records}
    as_run = {codes[name] for name in cells if name in codes}
    methods = {method for method, _ in as_run}
    return [row for row in panel.rows if row.method not in methods or codes[row.cell] in as_run]


def _rankings(panel: Panel, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By method, the rows on the grid: of its variants, those of the best on validation."""
    ranked = [row for row in rows if not (row.is_found or row.is_matched)]
    rankings: dict[str, list[Row]] = {}
    for method, of_method in grouped(ranked, lambda row: row.method).items():
        has_draws = of_method[0].draw is not None
        best = of_method[0].variant if has_draws else panel.best(of_method)
        rankings[method] = [row for row in of_method if row.variant == best]
    return rankings


def _columns(panel: Panel, rankings: Sequence[Collection[int]]) -> list[float]:
    """Some sparsities of the grids, above 0, with the sparsest; every ranking has one of them.

    Rankings are given by the numbers of edges to which they were cut.
    """
    grid = sorted({at for record in panel.records for at in record.definition.sparsities if at})
    step = -(-len(grid) // MOST_COLUMNS)
    columns = set(grid[::-1][:: max(1, step)])
    for sizes in rankings:
        own = [at for at in grid if panel.edges_at(at) in sizes]
        if own and columns.isdisjoint(own):
            columns.add(own[-1])
    return sorted(columns)


def _of_circuits(panel: Panel, rows: Sequence[Row]) -> dict[str, str]:
    return {
        "sparsity": f"{100 * fmean(row.sparsity for row in rows):.1f} %",
        "value": f"{fmean(row.metrics[panel.metric].mean for row in rows):.3g}",
    }


def _of_ranking(panel: Panel, rows: Sequence[Row], columns: Sequence[float]) -> dict[str, str]:
    """The mean at each column's number of edges, where the ranking was cut to it."""
    by_size = grouped(rows, lambda row: row.edges)
    return {
        _percent(at): f"{fmean(row.metrics[panel.metric].mean for row in by_size[edges]):.3g}"
        for at in columns
        if (edges := panel.edges_at(at)) in by_size
    }


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:g} %"
