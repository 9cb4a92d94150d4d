"""Faithfulness and other metrics against achieved sparsity, one panel per task and metric.

Rankings are lines over the fixed grid of sizes, circuits are points. A band around a line spans the
seeds or, with one seed, the 95 % bootstrap interval over prompts; bars on points are that interval.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from statistics import fmean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.typing import FillStyleType

from benchmarks.results import Panel, Row, grouped
from benchmarks.style import GREY, error_axis, method_style, sparsity_axis, style

PANEL_INCHES = (4.6, 3.4)
FILLS: tuple[FillStyleType, ...] = ("full", "none", "left", "top")
"""Of the markers of a method's variants."""
LEGEND_LINE_INCHES, CAPTION_LINE_INCHES = 0.19, 0.15
LEGEND_CHARACTERS, CAPTION_CHARACTERS = 76, 84


def faithfulness_figure(panels: Sequence[Panel]) -> Figure:
    """Every panel by its primary metric."""
    return _figure([[(panel, panel.metric) for panel in panels]])


def metrics_figure(panels: Sequence[Panel], metrics: Iterable[str]) -> Figure | None:
    """The panels that have a metric, metric by metric; None if there are none."""
    having = [
        [(panel, metric) for panel in panels if metric in panel.records[0]["metrics"]]
        for metric in metrics
    ]
    having = [pairs for pairs in having if pairs]
    return _figure(having) if having else None


def _figure(groups: Sequence[Sequence[tuple[Panel, str]]]) -> Figure:
    """Every group of panels starts a new line."""
    columns = min(2, max(map(len, groups)))
    lines, places = 0, []
    for pairs in groups:
        places += [(1 + columns * lines + offset, *pair) for offset, pair in enumerate(pairs)]
        lines += math.ceil(len(pairs) / columns)
    with style():
        figure = Figure()
        legends = [
            _draw_panel(figure.add_subplot(lines, columns, place), panel, metric)
            for place, panel, metric in places
        ]
        line = PANEL_INCHES[1] + LEGEND_LINE_INCHES * max(legends)
        finish(figure, (PANEL_INCHES[0] * columns, line * lines), [panel for _, panel, _ in places])
    return figure


def finish(figure: Figure, inches: tuple[float, float], panels: Iterable[Panel]) -> None:
    """Give a figure its size and, below its axes, the captions of its panels."""
    width, above = inches
    characters = int(CAPTION_CHARACTERS / PANEL_INCHES[0] * width)
    caption = [
        line
        for text in dict.fromkeys(panel.caption for panel in panels)
        for line in textwrap.wrap(text, characters, subsequent_indent="    ")
    ]
    below = CAPTION_LINE_INCHES * (len(caption) + 1)
    height = above + below
    figure.set_size_inches(width, height)
    rect = (0, below / height, 1, above / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect))
    figure.text(0.01, 0.06 / height, "\n".join(caption), fontsize=7, color="#404040")


def _draw_panel(axes: Axes, panel: Panel, metric: str) -> int:
    """Gives the number of lines of the legend below the panel."""
    full = [row.metrics[metric].mean for row in panel.rows if row.edges == panel.n_edges]
    if full:
        axes.axhline(fmean(full), color="#202020", ls="--", lw=0.9, label="full model")
    shown = [row for row in panel.rows if row.edges > 0]
    for method, rows in grouped(shown, lambda row: row.method).items():
        grid = [row for row in rows if not row.is_matched]
        if rows[0].is_found:
            fills: Iterator[FillStyleType] = cycle(FILLS)
            for variant, points in grouped(rows, lambda row: row.variant).items():
                label = _label(method, variant)
                _draw_points(axes, points, label, metric, panel.n_edges, next(fills))
        elif rows[0].draw is not None:
            _draw_draws(axes, grid, metric, panel.n_edges)
        else:
            best = panel.best(grid)
            chosen = [row for row in grid if row.variant == best]
            _draw_ranking(axes, chosen, _label(method, best), metric, panel.n_edges)
    sparsity_axis(axes, fewest_kept=min(row.edges for row in shown) / panel.n_edges)
    if panel.records[0]["metrics"][metric]["better"] == "lower":
        error_axis(axes)
    axes.set_ylabel(panel.records[0]["metrics"][metric]["unit"])
    axes.set_title(panel.title)
    labels = axes.get_legend_handles_labels()[1]
    columns = max(1, min(3, LEGEND_CHARACTERS // (6 + max(map(len, labels)))))
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=columns,
        columnspacing=1.2,
        handlelength=1.6,
    )
    return math.ceil(len(labels) / columns)


def _label(method: str, variant: str) -> str:
    return f"{method_style(method).label}, {variant}" if variant else method_style(method).label


def _draw_draws(axes: Axes, rows: Sequence[Row], metric: str, n_edges: int) -> None:
    """A band from the least to the greatest of all draws and seeds, and their median."""
    sizes = sorted(grouped(rows, lambda row: row.edges).items())
    kept = [edges / n_edges for edges, _ in sizes]
    values = [[row.metrics[metric].mean for row in group] for _, group in sizes]
    n_draws = len(grouped(rows, lambda row: (row.cell, row.draw)))
    label = f"{method_style(rows[0].method).label}, {n_draws} draws"
    band = list(map(min, values)), list(map(max, values))
    axes.fill_between(kept, *band, color=GREY, alpha=0.25, lw=0, label=label)
    axes.plot(kept, list(map(median, values)), color=GREY, lw=1)


def _draw_ranking(axes: Axes, rows: Sequence[Row], label: str, metric: str, n_edges: int) -> None:
    sizes = sorted(grouped(rows, lambda row: row.edges).items())
    kept = [edges / n_edges for edges, _ in sizes]
    values = [[row.metrics[metric] for row in group] for _, group in sizes]
    if len(grouped(rows, lambda row: row.seed)) > 1:
        low = [min(value.mean for value in group) for group in values]
        high = [max(value.mean for value in group) for group in values]
    else:
        low = [group[0].low for group in values]
        high = [group[0].high for group in values]
    looks = method_style(rows[0].method)
    axes.fill_between(kept, low, high, color=looks.colour, alpha=0.18, lw=0)
    means = [fmean(value.mean for value in group) for group in values]
    axes.plot(kept, means, color=looks.colour, marker=looks.marker, label=label)


def _draw_points(
    axes: Axes,
    rows: Sequence[Row],
    label: str,
    metric: str,
    n_edges: int,
    filled: FillStyleType,
) -> None:
    """Every circuit with its interval; a line joins the settings' means over seeds."""
    looks = method_style(rows[0].method)
    values = [row.metrics[metric] for row in rows]
    axes.errorbar(
        [row.edges / n_edges for row in rows],
        [value.mean for value in values],
        yerr=[
            [max(0.0, value.mean - value.low) for value in values],
            [max(0.0, value.high - value.mean) for value in values],
        ],
        fmt=looks.marker,
        fillstyle=filled,
        color=looks.colour,
        elinewidth=0.9,
        capsize=2,
        label=label,
    )
    means = sorted(
        (
            fmean(row.edges for row in group) / n_edges,
            fmean(row.metrics[metric].mean for row in group),
        )
        for group in grouped(rows, lambda row: row.setting).values()
    )
    axes.plot(*zip(*means, strict=True), color=looks.colour, lw=0.9)
