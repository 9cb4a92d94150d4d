"""How costs grow along an axis: exponents fitted to timings, and the log-log figure of them."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from scipy.stats import linregress

from benchmarks.drawing.style import method_style, style
from benchmarks.report.figures.panel_grid import CAPTION_LINE_INCHES
from benchmarks.report.panels import grouped

Timing = dict[str, Any]
"""A benchmark's extra information."""

AXES = ("examples", "layers", "heads", "width", "prompt length", "edges")
"""In the order of the figure's columns."""

QUANTITIES = {
    "seconds": "seconds",
    "forward_equivalents": "forward-equivalents",
    "added_bytes": "peak memory above the start, MB",
}
UNITS = {"added_bytes": 2**20}

FEWEST_POINTS = 3
NARROW = 100
"""An axis that spans less has ticks at 2 and 5, too."""
MOST_TICKS = 6
"""An axis with more values has ticks at powers of ten instead."""
PANEL_INCHES = (2.9, 2.5)
LEGEND_INCHES = 0.3
CAPTION_CHARACTERS_PER_INCH = 17


@dataclass(frozen=True)
class Fit:
    """quantity ≈ factor · value^exponent, by least squares on the logarithms.

    `error` is the exponent's standard error.
    """

    exponent: float
    error: float
    factor: float

    def at(self, values: Iterable[float]) -> list[float]:
        return [self.factor * value**self.exponent for value in values]


def fit(values: Sequence[float], quantities: Sequence[float]) -> Fit | None:
    """None where fewer than three points are left: what is not positive has no logarithm."""
    points = [pair for pair in zip(values, quantities, strict=True) if min(pair) > 0]
    if len(points) < FEWEST_POINTS:
        return None
    line: Any = linregress(*np.log(np.array(points)).T)
    return Fit(float(line.slope), float(line.stderr), math.exp(line.intercept))


def along_axes(timings: Iterable[Timing]) -> dict[str, dict[str, list[Timing]]]:
    """Axis -> method -> its timings by value, axes in the figure's order."""
    by_axis = grouped((one for one in timings if "axis" in one), lambda one: one["axis"])
    order = sorted(by_axis, key=lambda axis: (*AXES, axis).index(axis))
    return {
        axis: {
            method: sorted(some, key=lambda one: one["value"])
            for method, some in grouped(by_axis[axis], lambda one: one["method"]).items()
        }
        for axis in order
    }


def series(timings: Sequence[Timing], quantity: str) -> tuple[list[float], list[float]]:
    """The values of the axis and, for each, the whole discovery's quantity in its unit."""
    unit = UNITS.get(quantity, 1)
    return [one["value"] for one in timings], [one[quantity] / unit for one in timings]


def scaling_figure(timings: Iterable[Timing], caption: str) -> Figure | None:
    """A column per axis, a line per quantity.

    One legend says what was timed for each method; those of the panels give the exponents.
    """
    axes_of = along_axes(timings)
    if not axes_of:
        return None
    n_lines, n_columns = len(QUANTITIES), len(axes_of)
    width = PANEL_INCHES[0] * n_columns
    notes = textwrap.wrap(caption, int(CAPTION_CHARACTERS_PER_INCH * width))
    below = CAPTION_LINE_INCHES * (len(notes) + 1)
    above = PANEL_INCHES[1] * n_lines + LEGEND_INCHES
    with style():
        figure = Figure((width, above + below))
        for line, quantity in enumerate(QUANTITIES):
            for column, (axis, methods) in enumerate(axes_of.items()):
                place = 1 + n_columns * line + column
                axes = figure.add_subplot(n_lines, n_columns, place)
                for method, some in methods.items():
                    _draw_line(axes, method, *series(some, quantity))
                ticks = {one["value"] for some in methods.values() for one in some}
                _finish_panel(axes, sorted(ticks))
                if column == 0:
                    axes.set_ylabel(QUANTITIES[quantity])
                if line == 0:
                    axes.set_title(axis)
        height = above + below
        rect = (0, below / height, 1, (above - LEGEND_INCHES) / height)
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect))
        figure.align_ylabels()
        _say_what_was_timed(figure, axes_of.values())
        figure.text(0.01, 0.06 / height, "\n".join(notes), fontsize=7, color="#404040")
    return figure


def _say_what_was_timed(figure: Figure, axes_of: Iterable[Mapping[str, Sequence[Timing]]]) -> None:
    """A legend of the methods above the panels, with the work that was timed."""
    work = {method: some[0].get("work") for methods in axes_of for method, some in methods.items()}
    looks = {method: method_style(method) for method in work}
    figure.legend(
        handles=[
            Line2D([], [], ls="none", marker=looks[method].marker, color=looks[method].colour)
            for method in work
        ],
        labels=[
            f"{looks[method].label}: {done}" if done else looks[method].label
            for method, done in work.items()
        ],
        loc="upper center",
        ncols=len(work),
    )


def _draw_line(axes: Axes, method: str, values: list[float], quantities: list[float]) -> None:
    looks = method_style(method)
    points = [pair for pair in zip(values, quantities, strict=True) if min(pair) > 0]
    if not points:
        return
    label, fitted = None, fit(values, quantities)
    if fitted is not None:
        label = f"$\\propto x^{{{fitted.exponent:.2f}}}$"
        ends = [min(values), max(values)]
        axes.plot(ends, fitted.at(ends), color=looks.colour, ls="--", lw=0.8)
    measured: dict[str, Any] = dict(color=looks.colour, marker=looks.marker, label=label)
    axes.plot(*zip(*points, strict=True), **measured, ls="none" if fitted else "-")


def _finish_panel(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="x", labelsize=7)
    # Room for the legend above the lines.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.5)
    if high / low < NARROW:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", fontsize=7, handlelength=1.2)
