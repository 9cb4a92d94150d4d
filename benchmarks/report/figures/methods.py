"""Every method that ranks edges, each in a small panel, before all the others in grey."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drawing.style import GREY, error_axis, method_style, sparsity_axis, style
from benchmarks.report.figures.curves import LINES, SMALL_LABELS, by_size, draw_ranking
from benchmarks.report.figures.panel_grid import finish
from benchmarks.report.panels import MOST_RANKINGS, Panel, Row
from benchmarks.report.results import Results

COLUMNS, INCHES = 3, (3.0, 1.9)
NOTE = "Grey: the other methods. Of a method's variants, the one best on the validation prompts."


def methods(results: Results) -> dict[str, Figure]:
    """One figure for each task where there are too many methods for one panel."""
    return {
        panel.title: methods_figure(panel)
        for panel in results.curves
        if len(panel.rankings()) > MOST_RANKINGS
    }


def methods_figure(panel: Panel) -> Figure:
    rankings, metric = panel.rankings(), panel.records[0].metrics[panel.metric]
    lines = math.ceil(len(rankings) / COLUMNS)
    with style():
        figure = Figure()
        for place, method in enumerate(rankings, 1):
            axes = figure.add_subplot(lines, COLUMNS, place)
            _draw(axes, panel, rankings, method)
            axes.tick_params(labelsize=SMALL_LABELS)
            if metric.better == "lower":
                error_axis(axes)
            axes.label_outer()
        figure.supylabel(metric.unit, fontsize=SMALL_LABELS)
        size = INCHES[0] * COLUMNS, INCHES[1] * lines
        finish(figure, size, [panel], note=f"{LINES} {NOTE}")
    return figure


def _draw(axes: Axes, panel: Panel, rankings: Mapping[str, Sequence[Row]], method: str) -> None:
    label = method_style(method).label
    for other, rows in rankings.items():
        if other != method:
            kept, values = by_size(rows, panel.metric, panel.n_edges)
            means = [fmean(value.mean for value in group) for group in values]
            axes.plot(kept, means, color=GREY, lw=0.7, alpha=0.6)
    draw_ranking(axes, rankings[method], label, panel.metric, panel.n_edges)
    variant = rankings[method][0].variant
    axes.set_title(f"{label}, {variant}" if variant else label, fontsize=SMALL_LABELS + 1)
    fewest = min(row.edges for row in rankings[method])
    sparsity_axis(axes, fewest_kept=fewest / panel.n_edges, most_kept=1)
