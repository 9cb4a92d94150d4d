"""Per task, how many circuits have each sparsity and how many pairs of seeds each overlap."""

import textwrap
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from benchmarks.drawing.style import method_style, style
from benchmarks.report.figures.panel_grid import LEGEND_LINE_INCHES, PANEL_INCHES, finish
from benchmarks.report.panels import grouped
from benchmarks.report.repeats import Repeats
from benchmarks.report.results import Results

BINS = 20
LEGEND_CHARACTERS = 100


def consistency(results: Results) -> dict[str, Figure]:
    """One figure, where settings found circuits with several seeds."""
    return {"": _figure(results.repeats)} if results.repeats else {}


def _figure(found: Sequence[Repeats]) -> Figure:
    tasks = list(grouped(found, lambda setting: setting.panel).values())
    lines = [1 + sum(1 + label.count("\n") for label in map(_label, group)) for group in tasks]
    heights = [PANEL_INCHES[1] + LEGEND_LINE_INCHES * number for number in lines]
    with style():
        figure = Figure()
        parts = figure.subfigures(len(tasks), 1, squeeze=False, height_ratios=heights)
        for part, group in zip(parts.flat, tasks, strict=True):
            _draw_task(part, group)
        panels = [group[0].panel for group in tasks]
        finish(figure, (2 * PANEL_INCHES[0], sum(heights)), panels)
    return figure


def _draw_task(part: SubFigure, group: Sequence[Repeats]) -> None:
    sparsity, overlap = part.subplots(1, 2)
    looks: dict[str, Any] = {"stacked": True, "color": _shades(group), "ec": "white", "lw": 0.4}
    percent = [[100 * value for value in setting.sparsities] for setting in group]
    sparsity.hist(percent, BINS, **looks)
    sparsity.set_xlabel("sparsity, % of edges removed")
    sparsity.set_ylabel("circuits")
    labels = list(map(_label, group))
    overlap.hist([setting.overlaps for setting in group], BINS, range=(0, 1), label=labels, **looks)
    chance = fmean(value for setting in group for value in setting.chances)
    overlap.axvline(chance, color="#202020", ls="--", lw=0.9, label="overlap by chance")
    overlap.set_xlabel("overlap, edges in both / edges in either")
    overlap.set_ylabel("pairs of seeds")
    for axes in (sparsity, overlap):
        axes.set_title(group[0].panel.heading)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    part.legend(loc="outside lower center")


def _label(setting: Repeats) -> str:
    text = f"{method_style(setting.method).label}, {setting.setting}"
    return "\n".join(textwrap.wrap(text, LEGEND_CHARACTERS))


def _shades(group: Sequence[Repeats]) -> list[tuple[float, ...]]:
    """The methods' colours, lighter from one setting of a method to the next."""
    seen: dict[str, int] = {}
    shades = []
    for setting in group:
        place = seen[setting.method] = seen.get(setting.method, -1) + 1
        colour = np.array(to_rgb(method_style(setting.method).colour))
        shades.append(tuple((1 - (1 - colour) * 0.6**place).tolist()))
    return shades
