"""Recovered against true circuits, edge by edge: one figure per compiled program.

First stands the true circuit, then each method's best: the one with the fewest edges missing and
too many. Where there are several true circuits, each is compared with the nearest.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.drawing.circuits import (
    CAPTION_LINE_INCHES,
    INCHES,
    LEGEND_ENTRY_INCHES,
    LEGEND_LINE_INCHES,
    MARGIN,
    Drawing,
    legend_of,
)
from benchmarks.drawing.draw import known_truths
from benchmarks.drawing.style import method_style, style
from benchmarks.report.captions import captions
from benchmarks.report.panels import Panel, Row
from benchmarks.report.results import Results
from benchmarks.report.tables.recovered import best_rows, errors, verdict
from benchmarks.store import Store
from edgewise import Circuit
from edgewise.evaluate import nearest_truth

COLUMNS = 3
LEAST_WIDTH = 3.2
TITLE_LINE_INCHES, TITLE_CHARACTERS_PER_INCH = 0.15, 14
CAPTION_CHARACTERS_PER_INCH = 18
NOTE = (
    "3.1: head 1 of layer 3; m3: its MLP. Extra edges that change no logit are counted, not drawn."
)


class Recovered(NamedTuple):
    """A method's best circuit, and the true one nearest to it."""

    row: Row
    circuit: Circuit
    truth: Bool[Tensor, "reader writer"]


@dataclass(frozen=True, eq=False)
class Recovery:
    """One program's true circuit and what the methods found of it."""

    panel: Panel
    found: Sequence[Recovered]


def recovered(results: Results) -> dict[str, Figure]:
    """By the panel's title: the program's name and, where there are several, what tells it."""
    return {
        recovery.panel.title: recovery_figure(recovery)
        for recovery in recoveries(results.panels, results.store)
    }


def recoveries(panels: Sequence[Panel], store: Store) -> list[Recovery]:
    """Every panel of a compiled program whose true circuits are those of today."""
    found_of_all: list[Recovery] = []
    for panel in panels:
        first = panel.records[0]
        if not first.true_circuits:
            continue
        truths = known_truths(panel.task, first.ablation, first.definition.weights)
        best = best_rows(panel)
        circuits = [_circuit(row, store) for row in best]
        found = [
            Recovered(row, circuit, nearest_truth(circuit, truths))
            for row, circuit in zip(best, circuits, strict=True)
            if truths
        ]
        if found:
            found_of_all.append(Recovery(panel, found))
    return found_of_all


def recovery_figure(recovery: Recovery) -> Figure:
    """The true circuit and, beside it, each method's."""
    graph, ablation = recovery.found[0].circuit.graph, recovery.panel.records[0].ablation
    nearest = min(recovery.found, key=lambda found: errors(found.row)).truth
    true = Circuit(nearest, graph)
    drawings = [Drawing(true, ablation)]
    titles = [f"true circuit:\n{true.n_edges} edges"]
    for row, circuit, truth in recovery.found:
        drawings.append(Drawing(circuit, ablation, truth))
        titles.append(_title(row))
    columns = min(COLUMNS, len(drawings))
    each = max(LEAST_WIDTH, INCHES * max(drawing.width for drawing in drawings) + 2 * MARGIN)
    width = columns * each
    titles = [_wrapped(title, int(TITLE_CHARACTERS_PER_INCH * each)) for title in titles]
    above = TITLE_LINE_INCHES * (1 + max(title.count("\n") + 1 for title in titles))
    heights = [
        above + INCHES * max(drawing.height for drawing in drawings[start : start + columns])
        for start in range(0, len(drawings), columns)
    ]
    handles = legend_of([edge for drawing in drawings for edge in drawing.edges])
    words = " ".join([*captions([recovery.panel]), NOTE])
    caption = textwrap.wrap(words, int(CAPTION_CHARACTERS_PER_INCH * width))
    legend_columns = min(len(handles), int(width / LEGEND_ENTRY_INCHES))
    notes = CAPTION_LINE_INCHES * (len(caption) + 1)
    below = notes + LEGEND_LINE_INCHES * (1 + math.ceil(len(handles) / legend_columns))
    height = sum(heights) + below
    with style():
        figure = Figure((width, height))
        for place, (drawing, title) in enumerate(zip(drawings, titles, strict=True)):
            line, column = divmod(place, columns)
            tall = INCHES * drawing.height
            top = height - sum(heights[:line])
            axes = figure.add_axes(
                (
                    *(column / columns, (top - above - tall) / height),
                    *(1 / columns, tall / height),
                )
            )
            drawing.draw(axes, each / INCHES)
            at = (column * each + MARGIN) / width
            figure.text(at, (top - 0.08) / height, title, va="top", fontsize=9)
        figure.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, notes / height),
            ncols=legend_columns,
            columnspacing=1.2,
        )
        figure.text(
            *(MARGIN / width, 0.08 / height, "\n".join(caption)), fontsize=7, color="#404040"
        )
    return figure


def _circuit(row: Row, store: Store) -> Circuit:
    found = store.discovery(row.cell)
    return found if isinstance(found, Circuit) else found[row.draw or 0].circuit(row.edges)


def _title(row: Row) -> str:
    label = method_style(row.method).label
    name = f"{label}, {row.setting}" if row.setting else label
    return f"{name}:\n{verdict(row)}"


def _wrapped(title: str, characters: int) -> str:
    return "\n".join(textwrap.fill(line, characters) for line in title.splitlines())
