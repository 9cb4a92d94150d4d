"""Faithfulness against achieved sparsity, one panel per task.

Rankings are lines over the fixed grid of sizes, circuits are points. A band around a line spans the
seeds or, with one seed, the 95 % bootstrap interval over prompts; bars on points are that interval.
"""

import math
import textwrap
from collections.abc import Sequence
from statistics import fmean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.results import Panel, Row, grouped
from benchmarks.style import GREY, method_style, sparsity_axis, style

PANEL_INCHES = (4.6, 3.9)
CAPTION_LINE_INCHES = 0.15


def faithfulness_figure(panels: Sequence[Panel]) -> Figure:
    """Every panel by its primary metric."""
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    caption = [
        line
        for panel in panels
        for line in textwrap.wrap(panel.caption, 84 * columns, subsequent_indent="    ")
    ]
    below = CAPTION_LINE_INCHES * (len(caption) + 1)
    width, height = PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines + below
    with style():
        layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
        figure = Figure(figsize=(width, height), layout=layout)
        for position, panel in enumerate(panels, 1):
            _draw_panel(figure.add_subplot(lines, columns, position), panel, panel.metric)
        figure.text(0.01, 0.06 / height, "\n".join(caption), fontsize=7, color="#404040")
    return figure


def _draw_panel(axes: Axes, panel: Panel, metric: str) -> None:
    full = [row.metrics[metric].mean for row in panel.rows if row.edges == panel.n_edges]
    if full:
        axes.axhline(fmean(full), color="#202020", ls="--", lw=0.9, label="full model")
    shown = [row for row in panel.rows if row.edges > 0]
    for method, rows in grouped(shown, lambda row: row.method).items():
        grid = [row for row in rows if not row.is_matched]
        if rows[0].is_found:
            for variant, points in grouped(rows, lambda row: row.variant).items():
                _draw_points(axes, points, _label(method, variant), metric, panel.n_edges)
        elif rows[0].draw is not None:
            _draw_draws(axes, grid, metric, panel.n_edges)
        else:
            best = panel.best(grid)
            chosen = [row for row in grid if row.variant == best]
            _draw_ranking(axes, chosen, _label(method, best), metric, panel.n_edges)
    sparsity_axis(axes, fewest_kept=min(row.edges for row in shown) / panel.n_edges)
    axes.set_ylabel(panel.records[0]["metrics"][metric]["unit"])
    axes.set_title(panel.task)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=3,
        columnspacing=1.2,
        handlelength=1.6,
    )


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


def _draw_points(axes: Axes, rows: Sequence[Row], label: str, metric: str, n_edges: int) -> None:
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
