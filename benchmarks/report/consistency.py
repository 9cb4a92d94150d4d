"""How alike the circuits are that one method with one setting finds with different seeds.

The overlap of two circuits is the number of edges in both over the number in either. Chance is its
expectation for random circuits of the same sizes: of E edges, two circuits of k1 and k2 have a
hypergeometric number in common, k1·k2/E on average.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from scipy.stats import hypergeom
from torch import Tensor

from benchmarks.drawing.style import method_style, style
from benchmarks.report.panel_grid import LEGEND_LINE_INCHES, PANEL_INCHES, finish
from benchmarks.report.panels import Panel, grouped
from benchmarks.store import Store
from edgewise import Circuit

LEAST_SEEDS = 3
BINS = 20
LEGEND_CHARACTERS = 100


@dataclass(frozen=True, eq=False)
class Repeats:
    """The circuits of one setting, one per seed; overlap and chance are per pair of them."""

    panel: Panel
    method: str
    setting: str
    sparsities: Sequence[float]
    overlaps: Sequence[float]
    chances: Sequence[float]


def repeats(panels: Sequence[Panel], folder: Path) -> list[Repeats]:
    """Every setting that found circuits with enough seeds."""
    store = Store(folder)
    found: list[Repeats] = []
    for panel in panels:
        rows = [row for row in panel.rows if row.is_found]
        for (method, setting), alike in grouped(
            rows, lambda row: (row.method, row.setting)
        ).items():
            if len({row.seed for row in alike}) < LEAST_SEEDS:
                continue
            circuits = [store.discovery(row.cell) for row in alike]
            masks = [circuit.mask for circuit in circuits if isinstance(circuit, Circuit)]
            assert len(masks) == len(alike), "rows of circuits have circuits"
            overlaps, chances = [], []
            for one, other in combinations(masks, 2):
                overlaps.append(overlap(one, other))
                chances.append(chance_overlap(int(one.sum()), int(other.sum()), panel.n_edges))
            sparsities = [row.sparsity for row in alike]
            found.append(Repeats(panel, method, setting, sparsities, overlaps, chances))
    return found


def overlap(one: Bool[Tensor, "reader writer"], other: Bool[Tensor, "reader writer"]) -> float:
    """The edges in both circuits over those in either; 1 for two empty ones."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


@cache
def chance_overlap(one: int, other: int, n_edges: int) -> float:
    """The expected overlap of two random circuits of these sizes in a graph of `n_edges`."""
    if one == other == 0:
        return 1.0
    shared = np.arange(max(0, one + other - n_edges), min(one, other) + 1)
    likely = hypergeom.pmf(shared, n_edges, one, other)
    return float((likely * shared / (one + other - shared)).sum())


def consistency(found: Sequence[Repeats]) -> list[dict[str, Any]]:
    """One line per setting: its seeds, and means and ranges of sparsity and overlap."""
    return [
        {
            "task": one.panel.title,
            "model": one.panel.model,
            "method": method_style(one.method).label,
            "setting": one.setting,
            "seeds": len(one.sparsities),
            **_range("sparsity", one.sparsities),
            **_range("overlap", one.overlaps),
            "chance": fmean(one.chances),
        }
        for one in found
    ]


def show_consistency(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sparsities in percent, ranges in brackets."""
    return [
        {
            **{name: line[name] for name in ("task", "method", "setting", "seeds")},
            "sparsity, %": f"{100 * line['sparsity']:.2f} "
            f"[{100 * line['sparsity low']:.2f}, {100 * line['sparsity high']:.2f}]",
            "overlap": f"{line['overlap']:.2f} "
            f"[{line['overlap low']:.2f}, {line['overlap high']:.2f}]",
            "chance": f"{line['chance']:.3f}",
        }
        for line in lines
    ]


def consistency_figure(found: Sequence[Repeats]) -> Figure:
    """Per task, how many circuits have each sparsity and how many pairs each overlap."""
    tasks = list(grouped(found, lambda one: one.panel).values())
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
    sparsity.hist([[100 * value for value in one.sparsities] for one in group], BINS, **looks)
    sparsity.set_xlabel("sparsity, % of edges removed")
    sparsity.set_ylabel("circuits")
    labels = list(map(_label, group))
    overlap.hist([one.overlaps for one in group], BINS, range=(0, 1), label=labels, **looks)
    chance = fmean(value for one in group for value in one.chances)
    overlap.axvline(chance, color="#202020", ls="--", lw=0.9, label="overlap by chance")
    overlap.set_xlabel("overlap, edges in both / edges in either")
    overlap.set_ylabel("pairs of seeds")
    for axes in (sparsity, overlap):
        axes.set_title(group[0].panel.title)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    part.legend(loc="outside lower center")


def _label(one: Repeats) -> str:
    text = f"{method_style(one.method).label}, {one.setting}"
    return "\n".join(textwrap.wrap(text, LEGEND_CHARACTERS))


def _shades(group: Sequence[Repeats]) -> list[tuple[float, ...]]:
    """The methods' colours, lighter from one setting of a method to the next."""
    seen: dict[str, int] = {}
    shades = []
    for one in group:
        place = seen[one.method] = seen.get(one.method, -1) + 1
        colour = np.array(to_rgb(method_style(one.method).colour))
        shades.append(tuple((1 - (1 - colour) * 0.6**place).tolist()))
    return shades


def _range(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: fmean(values), f"{name} low": min(values), f"{name} high": max(values)}
