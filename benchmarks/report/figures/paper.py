"""A figure for a paper: one metric, a panel per task, at the width at which it is printed.

All panels have the same axes, and one legend says what their methods are. The caption is not in the
figure but beside it, as text. Of many rankings, the best of each family is shown, the same ones in
all panels.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.typing import FillStyleType

from benchmarks.drawing.style import method_style, sparsity_axis, style
from benchmarks.report.captions import captions
from benchmarks.report.figures.curves import FILLS, MOST_SEEDS, by_size, mean_and_range
from benchmarks.report.figures.panel_grid import entries, name_y_axis
from benchmarks.report.panels import MOST_RANKINGS, Panel, Row, family_of, grouped

WIDTHS = {"column": 3.25, "text": 6.75}
"""Inches."""
MOST_INCHES = 30
POINTS = 8
LEAST_PANEL, PANEL_HEIGHT, LEGEND_LINE = 1.55, 1.6, 0.155
LINEAR_BELOW = 0.1
MOST_VARIANTS = 3
"""Of a method's found circuits, the most variants with a marker of their own."""
_TICKS = (0, 0.1, 1, 10, 100)


def inches_of(width: str | float) -> float:
    """Of `column`, `text` or a number of inches. Raises ValueError for any other width."""
    try:
        inches = WIDTHS[width] if width in WIDTHS else float(width)
    except ValueError:
        inches = math.nan
    if not LEAST_PANEL <= inches <= MOST_INCHES:
        raise ValueError(
            f"width {width!r}; expected column, text or inches from {LEAST_PANEL} to {MOST_INCHES}"
        )
    return inches


def paper_figure(panels: Sequence[Panel], metric: str, width: float) -> tuple[Figure, str]:
    """The figure, of a width in inches, and its caption."""
    columns, lines = grid(len(panels), width)
    shown = chosen_rankings(panels)
    with style(), matplotlib.rc_context(_SMALL):
        figure = Figure(layout="constrained")
        places = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for place, panel in zip(places, panels, strict=False):
            _draw(place, panel, metric, shown)
        empty = list(places[len(panels) :])
        for place in empty[1:]:
            place.remove()
        _axes_of_all(list(places[: len(panels)]), panels, metric, columns)
        below = _legend(figure, width, empty[0] if empty else None)
        height = PANEL_HEIGHT * lines + below + 0.2
        figure.set_size_inches(width, height if columns > 1 else height + 0.5)
    return figure, caption(panels, metric, shown)


_SMALL: dict[Any, Any] = {
    "font.size": POINTS,
    "axes.titlesize": POINTS,
    "axes.labelsize": POINTS,
    "xtick.labelsize": POINTS - 1,
    "ytick.labelsize": POINTS - 1,
    "legend.fontsize": POINTS - 0.5,
    "lines.linewidth": 0.9,
    "lines.markersize": 3.2,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.titlepad": 3,
    "savefig.dpi": 300,
}


def grid(n: int, width: float) -> tuple[int, int]:
    """Columns and lines: as many columns as leave no place empty, if that is not one by one."""
    most = max(1, min(n, int(width / LEAST_PANEL)))
    even = [columns for columns in range(most, 1, -1) if n % columns == 0]
    columns = even[0] if even else most
    return columns, math.ceil(n / columns)


def chosen_rankings(panels: Sequence[Panel]) -> list[str]:
    """All methods that rank edges or, of many, those that are most often best of their family."""
    every = dict.fromkeys(method for panel in panels for method in panel.rankings())
    if len(every) <= MOST_RANKINGS:
        return list(every)
    wins: Counter[str] = Counter()
    for panel in panels:
        rows = [row for of_method in panel.rankings().values() for row in of_method]
        for of_family in grouped(rows, lambda row: family_of(row.method)).values():
            wins[panel.best(of_family, lambda row: row.method)] += 1
    families = grouped(every, family_of).values()
    best = {max(methods, key=lambda method: wins[method]) for methods in families}
    return [method for method in every if method in best]


def caption(panels: Sequence[Panel], metric: str, shown: Sequence[str]) -> str:
    """What the figure shows, with the scales of its axes, and what its numbers depend on."""
    unit = panels[0].records[0].metrics[metric]
    rows = [row for panel in panels for row in panel.rows if row.edges > 0]
    logarithmic = _is_logarithmic(panels, metric)
    sentences = [
        f"{unit.unit} ({unit.better} is better) against the share of edges removed.",
        "All panels have the same axes; the horizontal one is logarithmic in the share of edges "
        "kept"
        + (
            f", the vertical one linear below {LINEAR_BELOW} and logarithmic above."
            if logarithmic
            else ", the vertical one linear."
        ),
    ]
    if any(not row.is_found for row in rows):
        sentences.append(
            "Lines with points: rankings, cut at the sizes of the points; bands: the range over "
            "seeds or draws or, of one seed, the 95 % bootstrap interval over the test prompts."
        )
    if any(row.is_found for row in rows):
        sentences.append(
            "Points alone: circuits found at one setting, with 95 % bootstrap intervals; of more "
            f"than {MOST_SEEDS} seeds, their mean and range."
        )
    every = dict.fromkeys(method for panel in panels for method in panel.rankings())
    if len(every) > len(shown):
        sentences.append(
            f"Of {len(every)} methods that rank edges, the best of each family on the validation "
            "prompts is shown: " + ", ".join(method_style(m).label for m in shown) + "."
        )
    return " ".join([*sentences, *captions(panels)])


def _draw(axes: Axes, panel: Panel, metric: str, shown: Sequence[str]) -> None:
    axes.set_title(panel.heading)
    rows = [row for row in panel.rows if row.edges > 0 and not row.is_matched]
    rankings = panel.rankings()
    for (method, is_found), group in grouped(rows, lambda r: (r.method, r.is_found)).items():
        if is_found:
            _draw_circuits(axes, panel, metric, group)
        elif group[0].draw is not None:
            _draw_line(axes, panel, metric, group)
        elif method in shown and method in rankings:
            _draw_line(axes, panel, metric, rankings[method])


def _draw_line(axes: Axes, panel: Panel, metric: str, rows: Sequence[Row]) -> None:
    kept, values = by_size(rows, metric, panel.n_edges)
    spans = [mean_and_range(group) for group in values]
    looks = method_style(rows[0].method)
    low, high = [span.low for span in spans], [span.high for span in spans]
    axes.fill_between(kept, low, high, color=looks.colour, alpha=0.18, lw=0)
    means = [span.mean for span in spans]
    axes.plot(kept, means, color=looks.colour, marker=looks.marker, label=looks.label)


def _draw_circuits(axes: Axes, panel: Panel, metric: str, rows: Sequence[Row]) -> None:
    """A point per circuit or, with many seeds of one setting, their mean with its ranges."""
    looks = method_style(rows[0].method)
    variants = grouped(rows, lambda row: row.variant)
    many = len(variants) > MOST_VARIANTS
    fills: Mapping[str, FillStyleType] = {
        v: "full" if many else FILLS[i] for i, v in enumerate(variants)
    }
    for (variant, _), group in grouped(rows, lambda row: (row.variant, row.setting)).items():
        together = len({row.seed for row in group}) > MOST_SEEDS
        label = (
            f"{looks.label}, {variant}"
            if variant and not many and len(variants) > 1
            else looks.label
        )
        for points in [group] if together else [[row] for row in group]:
            kept = [row.edges / panel.n_edges for row in points]
            value, middle = mean_and_range([row.metrics[metric] for row in points]), fmean(kept)
            axes.errorbar(
                [middle],
                [value.mean],
                xerr=[[middle - min(kept)], [max(kept) - middle]] if together else None,
                yerr=[[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]],
                fmt=looks.marker,
                fillstyle=fills[variant],
                markeredgewidth=0.7,
                color=looks.colour,
                elinewidth=0.6,
                label=label,
            )


def _is_logarithmic(panels: Sequence[Panel], metric: str) -> bool:
    means = [r.metrics[metric].mean for p in panels for r in p.rows if r.edges > 0]
    return panels[0].records[0].metrics[metric].better == "lower" and max(means) > 10 * LINEAR_BELOW


def _legend(figure: Figure, width: float, empty: Axes | None) -> float:
    """In the place that is left empty, or else below; gives the inches that it takes below."""
    shown = entries(figure.axes)
    looks: dict[str, Any] = dict(handlelength=1.5, handletextpad=0.4, borderaxespad=0.1)
    if empty is not None:
        empty.set_axis_off()
        empty.legend(shown.values(), shown.keys(), loc="center", **looks)
        return 0.0
    columns = min(len(shown), max(1, int(width / (0.35 + 0.052 * max(map(len, shown))))))
    lines = math.ceil(len(shown) / columns)
    figure.legend(
        *(shown.values(), shown.keys()),
        loc="outside lower center",
        ncols=math.ceil(len(shown) / lines),
        columnspacing=1.0,
        **looks,
    )
    return LEGEND_LINE * lines + 0.1


def _axes_of_all(shown: Sequence[Axes], panels: Sequence[Panel], metric: str, columns: int) -> None:
    """The same scales in all panels, named where they start."""
    first = shown[0]
    has_ranking = any(not row.is_found for panel in panels for row in panel.rows)
    shares = [row.edges / p.n_edges for p in panels for row in p.rows if row.edges > 0]
    sparsity_axis(first, fewest_kept=min(shares), most_kept=1 if has_ranking else max(shares))
    if columns > 1:
        _thin(first)
    if _is_logarithmic(panels, metric):
        first.set_yscale("symlog", linthresh=LINEAR_BELOW, linscale=0.5)
        top = first.get_ylim()[1]
        first.yaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if tick <= top]))
        first.yaxis.set_minor_locator(NullLocator())
        first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        first.set_ylim(-0.2 * LINEAR_BELOW, top * 1.15)
    for place, axes in enumerate(shown):
        is_lowest = place + columns >= len(panels)
        axes.tick_params(labelbottom=is_lowest)
        axes.set_xlabel("sparsity, %" if is_lowest else "")
        if place % columns == 0:
            name_y_axis(axes, panels[0].records[0].metrics[metric].unit)


def _thin(axes: Axes) -> None:
    """Every other label of small panels, the sparsest always."""
    labels = list(axes.get_xticks())
    axes.xaxis.set_major_locator(FixedLocator(labels[::-1][::2][::-1]))
