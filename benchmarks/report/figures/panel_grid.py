"""How the panels of a figure stand, with their legends, and the captions below them."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from benchmarks.report.captions import captions
from benchmarks.report.panels import Panel

PANEL_INCHES = (4.6, 3.4)
LEGEND_LINE_INCHES, CAPTION_LINE_INCHES = 0.19, 0.15
LEGEND_CHARACTERS, CAPTION_CHARACTERS = 76, 84
"""In the width of a panel of `PANEL_INCHES`."""
LABEL_CHARACTERS = 24
"""In a line of the y axis's label, beside the smallest panels."""


@dataclass(frozen=True)
class Grid:
    """How panels stand: few in two columns, each with its legend; many smaller, sharing one."""

    columns: int
    inches: tuple[float, float]
    shares_legend: bool


TWO_COLUMNS = Grid(2, PANEL_INCHES, shares_legend=False)
THREE_COLUMNS = Grid(3, (3.7, 2.9), shares_legend=True)
FOUR_COLUMNS = Grid(4, (3.4, 2.7), shares_legend=True)


def grid_of(sizes: Sequence[int], *, may_share: bool) -> Grid:
    """For groups of these sizes; `may_share`: one look means the same in all panels."""
    if not may_share or sum(sizes) in (1, 2, 4):
        return TWO_COLUMNS
    return FOUR_COLUMNS if max(sizes) > 3 else THREE_COLUMNS


def starts(sizes: Sequence[int], columns: int) -> tuple[list[int], int]:
    """The place of each group's first panel, counted line by line, and the number of lines."""
    free: list[int] = []
    first: list[int] = []
    for size in sizes:
        line = next((line for line, room in enumerate(free) if room >= size), len(free))
        if line == len(free):
            lines = math.ceil(size / columns)
            free += [*[0] * (lines - 1), columns * lines - size]
            first.append(columns * line)
        else:
            first.append(columns * (line + 1) - free[line])
            free[line] -= size
    return first, len(free)


def finish(
    figure: Figure,
    inches: tuple[float, float],
    panels: Iterable[Panel],
    legend: Mapping[str, Artist] | None = None,
    note: str = "",
) -> None:
    """Give a figure its size and, below its axes, a legend of all, captions and the note.

    A dollar sign in a label stands for itself: no text is a formula.
    """
    width, above = inches
    characters = int(CAPTION_CHARACTERS / PANEL_INCHES[0] * width)
    caption = textwrap.wrap(" ".join([*captions(dict.fromkeys(panels)), note]), characters)
    notes = CAPTION_LINE_INCHES * (len(caption) + 1)
    below = notes
    if legend:
        columns = _legend_columns(legend, LEGEND_CHARACTERS / PANEL_INCHES[0] * width, len(legend))
        below += LEGEND_LINE_INCHES * (1 + math.ceil(len(legend) / columns))
    height = above + below
    if legend:
        figure.legend(
            *(legend.values(), legend.keys()),
            loc="lower center",
            bbox_to_anchor=(0.5, notes / height),
            ncols=columns,
            columnspacing=1.2,
        )
    figure.set_size_inches(width, height)
    rect = (0, below / height, 1, above / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect))
    figure.text(0.01, 0.06 / height, "\n".join(caption), fontsize=7, color="#404040")
    for text in figure.findobj(Text):
        cast(Text, text).set_parse_math(False)


def name_y_axis(axes: Axes, words: str) -> None:
    """Label the y axis, in lines no longer than the height of a panel."""
    axes.set_ylabel(textwrap.fill(words, LABEL_CHARACTERS))


def draw_legend(axes: Axes) -> int:
    """Below the panel; gives its number of lines."""
    shown = entries([axes])
    columns = _legend_columns(shown, LEGEND_CHARACTERS, 3)
    axes.legend(
        *(shown.values(), shown.keys()),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=columns,
        columnspacing=1.2,
        handlelength=1.6,
    )
    return math.ceil(len(shown) / columns)


def entries(axes: Iterable[Axes]) -> dict[str, Artist]:
    """What stands for each label in a legend."""
    return {
        label: handle
        for one in axes
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True)
    }


def _legend_columns(labels: Iterable[str], characters: float, most: int) -> int:
    return max(1, min(most, int(characters // (6 + max(map(len, labels))))))
