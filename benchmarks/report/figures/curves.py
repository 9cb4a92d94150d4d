"""Faithfulness and other metrics against achieved sparsity, one panel per task and metric.

Rankings are lines over the fixed grid of sizes, circuits are points. A band around a line spans the
seeds or, with one seed, the 95 % bootstrap interval over prompts; bars on points are that interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import FillStyleType

from benchmarks.drawing.style import GREY, error_axis, method_style, sparsity_axis, style
from benchmarks.report.figures.panel_grid import (
    LEGEND_LINE_INCHES,
    draw_legend,
    entries,
    finish,
    grid_of,
    name_y_axis,
    starts,
)
from benchmarks.report.panels import MOST_RANKINGS, Estimate, Panel, Row, grouped
from benchmarks.report.results import Results

FILLS: tuple[FillStyleType, ...] = ("full", "none", "left", "top", "right", "bottom")
"""Of the markers of a method's variants."""

MOST_SEEDS = 4
"""The most circuits of one setting that are drawn one by one."""
POINTS = (
    "Points: circuits, with 95 % bootstrap intervals over the test prompts; of more than "
    f"{MOST_SEEDS} seeds of a setting, the mean and the range."
)
LINES = (
    "Lines: rankings; bands: the range over seeds (of random circuits, draws) or, of one seed, the "
    "95 % bootstrap interval over the test prompts."
)
BEST = (
    f"Of more than {MOST_RANKINGS} methods that rank edges, the best of each family on the "
    "validation prompts; the figures `methods` show all."
)
SMALL_LABELS = 7.5
NOTE_POINTS = 10
"""From one note to the next."""

AGREEMENT = ("accuracy", "exact_match", "kendall_tau")
"""Metrics that say how often, or how far, a circuit decides as it should."""

Fills = Mapping[tuple[str, str], FillStyleType]
"""By method and variant."""


def faithfulness(results: Results) -> dict[str, Figure]:
    """The primary metrics."""
    return {"": faithfulness_figure(results.curves)} if results.curves else {}


def task_metrics(results: Results) -> dict[str, Figure]:
    """What tasks measure besides their primary metric and the agreement of choices."""
    panels = results.curves
    names = [name for panel in panels for name in panel.records[0].metrics]
    shown = {*AGREEMENT, *(panel.metric for panel in panels)}
    return _metrics(results, [name for name in dict.fromkeys(names) if name not in shown])


def agreement(results: Results) -> dict[str, Figure]:
    """How often circuits decide as the model does."""
    return _metrics(results, AGREEMENT)


def _metrics(results: Results, metrics: Iterable[str]) -> dict[str, Figure]:
    """A search ends at one sparsity: its table says it all, and the primary metric is enough."""
    figure = None if results.searches else metrics_figure(results.curves, metrics)
    return {} if figure is None else {"": figure}


def faithfulness_figure(panels: Sequence[Panel]) -> Figure:
    """Every panel by its primary metric."""
    return _figure([[(panel, panel.metric) for panel in panels]])


def metrics_figure(panels: Sequence[Panel], metrics: Iterable[str]) -> Figure | None:
    """The panels that have a metric, metric by metric; None if there are none."""
    having = [
        [(panel, metric) for panel in panels if metric in panel.records[0].metrics]
        for metric in metrics
    ]
    having = [pairs for pairs in having if pairs]
    return _figure(having) if having else None


def _figure(groups: Sequence[Sequence[tuple[Panel, str]]]) -> Figure:
    """Every group of panels starts a line, or goes on where it fits whole."""
    sizes = list(map(len, groups))
    panels = [panel for pairs in groups for panel, _ in pairs]
    fills = _fills(panels)
    looks = [(method, fill) for (method, _), fill in fills.items()]
    grid = grid_of(sizes, may_share=len(set(looks)) == len(looks))
    columns = min(grid.columns, sum(sizes))
    first, lines = starts(sizes, columns)
    places = [
        (1 + start + offset, *pair)
        for start, pairs in zip(first, groups, strict=True)
        for offset, pair in enumerate(pairs)
    ]
    with style():
        figure = Figure()
        legends = [0]
        for place, panel, metric in places:
            axes = figure.add_subplot(lines, columns, place)
            own = fills if grid.shares_legend else _fills([panel])
            _draw_panel(axes, panel, metric, own, notes_variant=grid.shares_legend)
            if grid.shares_legend:
                axes.tick_params(labelsize=SMALL_LABELS)
            else:
                legends.append(draw_legend(axes))
        line = grid.inches[1] + LEGEND_LINE_INCHES * max(legends)
        shared = entries(figure.axes) if grid.shares_legend else {}
        finish(figure, (grid.inches[0] * columns, line * lines), panels, shared, _note(panels))
    return figure


def _note(panels: Sequence[Panel]) -> str:
    kinds = {row.is_found for panel in panels for row in panel.rows}
    has_more = any(len(panel.rankings()) > MOST_RANKINGS for panel in panels)
    notes = (POINTS, True in kinds), (LINES, False in kinds), (BEST, has_more)
    return " ".join(text for text, applies in notes if applies)


def _fills(panels: Iterable[Panel]) -> Fills:
    """How the markers of each variant of found circuits are filled, alike in these panels."""
    rows = [row for panel in panels for row in panel.rows if row.is_found]
    return {
        (method, variant): FILLS[place % len(FILLS)]
        for method, alike in grouped(rows, lambda row: row.method).items()
        for place, variant in enumerate(grouped(alike, lambda row: row.variant))
    }


def _draw_panel(
    axes: Axes, panel: Panel, metric: str, fills: Fills, *, notes_variant: bool
) -> None:
    """`notes_variant`: the variant of a ranking stands below the title, not in its label."""
    axes.set_title(panel.heading)
    _draw_full_model(axes, panel, metric)
    shown, rankings = [row for row in panel.rows if row.edges > 0], panel.best_rankings()
    for (method, is_found), rows in grouped(shown, lambda row: (row.method, row.is_found)).items():
        if is_found:
            for variant, points in grouped(rows, lambda row: row.variant).items():
                label = _label(method, variant)
                _draw_points(axes, points, label, metric, panel.n_edges, fills[method, variant])
        elif rows[0].draw is not None:
            grid = [row for row in rows if not row.is_matched]
            _draw_draws(axes, grid, metric, panel.n_edges)
        elif method in rankings:
            best = rankings[method][0].variant
            label = _label(method, "" if notes_variant else best)
            draw_ranking(axes, rankings[method], label, metric, panel.n_edges)
            if notes_variant and best:
                _draw_note(axes, _label(method, best), method)
    has_ranking = any(not row.is_found for row in shown)
    sparsity_axis(
        axes,
        fewest_kept=min(row.edges for row in shown) / panel.n_edges,
        most_kept=1 if has_ranking else max(row.edges for row in shown) / panel.n_edges,
    )
    if panel.records[0].metrics[metric].better == "lower":
        error_axis(axes)
    name_y_axis(axes, panel.records[0].metrics[metric].unit)


def _draw_full_model(axes: Axes, panel: Panel, metric: str) -> None:
    """The mean over seeds, each of which has test prompts of its own; a band spans them."""
    rows = [row for row in panel.rows if row.edges == panel.n_edges]
    full = [alike[0].metrics[metric].mean for alike in grouped(rows, lambda row: row.seed).values()]
    if full:
        axes.axhline(fmean(full), color="#202020", ls="--", lw=0.9, label="full model")
        axes.axhspan(min(full), max(full), color="#202020", alpha=0.08, lw=0)


def _draw_note(axes: Axes, text: str, method: str) -> None:
    """Below the title and above earlier notes."""
    height = NOTE_POINTS * len(axes.texts)
    axes.set_title(axes.get_title(), pad=height + NOTE_POINTS + 4)
    axes.annotate(
        text,
        (0.5, 1),
        (0, height + 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=7,
        color=method_style(method).colour,
    )


def _label(method: str, variant: str) -> str:
    return f"{method_style(method).label}, {variant}" if variant else method_style(method).label


def _draw_draws(axes: Axes, rows: Sequence[Row], metric: str, n_edges: int) -> None:
    """A band from the least to the greatest of all draws and seeds, and their median."""
    kept, estimates = by_size(rows, metric, n_edges)
    values = [[value.mean for value in group] for group in estimates]
    n_draws = len(grouped(rows, lambda row: (row.variant, row.seed, row.draw)))
    label = f"{method_style(rows[0].method).label}, {n_draws} draws"
    band = list(map(min, values)), list(map(max, values))
    axes.fill_between(kept, *band, color=GREY, alpha=0.25, lw=0, label=label)
    axes.plot(kept, list(map(median, values)), color=GREY, lw=1)


def by_size(
    rows: Iterable[Row], metric: str, n_edges: int
) -> tuple[list[float], list[list[Estimate]]]:
    """The shares of edges kept, from few to all, and the values at each."""
    sizes = sorted(grouped(rows, lambda row: row.edges).items())
    kept = [edges / n_edges for edges, _ in sizes]
    return kept, [[row.metrics[metric] for row in group] for _, group in sizes]


def draw_ranking(axes: Axes, rows: Sequence[Row], label: str, metric: str, n_edges: int) -> None:
    """The mean over seeds, in a band."""
    kept, values = by_size(rows, metric, n_edges)
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
    """Every circuit with its interval; of many seeds of a setting, the mean with its ranges.

    Nothing joins them: between two circuits nothing was measured.
    """
    looks = method_style(rows[0].method)
    named: str | None = label
    for group in grouped(rows, lambda row: row.setting).values():
        together = len({row.seed for row in group}) > MOST_SEEDS
        for points in [group] if together else [[row] for row in group]:
            kept = [row.edges / n_edges for row in points]
            value = mean_and_range([row.metrics[metric] for row in points])
            middle = fmean(kept)
            axes.errorbar(
                [middle],
                [value.mean],
                xerr=[[middle - min(kept)], [max(kept) - middle]] if together else None,
                yerr=[[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]],
                fmt=looks.marker,
                fillstyle=filled,
                color=looks.colour,
                elinewidth=0.9,
                capsize=2,
                label=named,
            )
            named = None


def mean_and_range(values: Sequence[Estimate]) -> Estimate:
    """Of one, its own interval; of several, the mean and the range."""
    if len(values) == 1:
        return values[0]
    means = [value.mean for value in values]
    return Estimate(fmean(means), min(means), max(means))
