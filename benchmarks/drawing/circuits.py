"""A circuit as a picture: layers upwards, embeddings at the bottom, `out` on top.

A layer is a row of attention heads and, above it, the MLP. A node's edges leave it as one trunk and
branch off below their targets; q, k and v arrive left, middle and right at a head. A trunk takes a
colour where all its edges have it. Edges that are not live are left out, and so is a node without
edges. Beside a true circuit, the edges that are missing and those that are not in it stand out.
Where edges have scores, an edge is as wide as its score is large, and dashed where it is negative.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from torch import Tensor

from benchmarks.drawing.layers import Layout, layout
from benchmarks.drawing.style import BLUE, GREEN, GREY, ORANGE, PINK, RED, style
from edgewise import Circuit, Graph
from edgewise.graph import Ablation

Status = Literal["found", "missing", "extra"]
Look = tuple[str, Literal["-", "--", ":"]]
"""A line's colour and style."""

INCHES = 0.5
"""Of one unit: the space of a node in its row."""
BOX_WIDTH, BOX_HEIGHT = 0.78, 0.44
LEAST_WIDTH, MARGIN = 5.5, 0.12
CAPTION_LINE_INCHES, CAPTION_CHARACTERS_PER_INCH = 0.14, 16
LEGEND_LINE_INCHES, LEGEND_ENTRY_INCHES = 0.19, 1.15
MOST_EDGES = 250
"""More edges than this are a smear: the strongest are drawn."""
PLAIN_WIDTH, LEAST_WIDTH_OF_EDGE, MORE_WIDTH = 1.0, 0.5, 2.4
"""In points: of edges without scores, and the range of those with them."""

_PORTS = {"q": -0.26, "k": 0.0, "v": 0.26, "": 0.0}
_COLOURS = {"q": BLUE, "k": GREEN, "v": ORANGE, "": "#303030"}
_NAMES = {"q": "into q", "k": "into k", "v": "into v", "": "into MLP or out"}
_OFF_TRUTH: Mapping[Status, Look] = {"missing": (PINK, "--"), "extra": (RED, "-")}
_TRUNK: Look = (GREY, "-")
_SHARED: Look = (GREY, ":")
_NEGATIVE: Look = (GREY, "--")


@dataclass(frozen=True)
class Edge:
    """An edge from node to node; `kind` is q, k or v at a head, and empty elsewhere."""

    source: str
    target: str
    kind: str
    status: Status
    score: float | None = None
    """Over the greatest score in size."""

    @property
    def width(self) -> float:
        """In points."""
        if self.score is None:
            return PLAIN_WIDTH
        return LEAST_WIDTH_OF_EDGE + MORE_WIDTH * math.sqrt(abs(self.score))

    @property
    def name(self) -> str:
        return f"{self.source}->{self.target}{self.kind and '.'}{self.kind}"

    @property
    def look(self) -> Look:
        line = "--" if self.score is not None and self.score < 0 else "-"
        return _OFF_TRUTH.get(self.status, (_COLOURS[self.kind], line))


def drawn_edges(
    circuit: Circuit,
    ablation: Ablation,
    truth: Bool[Tensor, "reader writer"] | None = None,
    scores: Float[Tensor, "reader writer"] | None = None,
    most: int | None = None,
) -> list[Edge]:
    """The live edges of a circuit and all edges of the truth, in the order of the readers.

    Of more than `most` live edges, those with the scores of the greatest size or, without scores,
    those nearest to `out`.
    """
    graph = circuit.graph
    shown = graph.live(circuit.mask, ablation)
    if most is not None:
        shown = _strongest(shown, scores, most)
    sizes = None if scores is None else scores / (scores * shown).abs().max().clamp_min(1e-30)
    expected = circuit.mask if truth is None else truth
    if truth is not None:
        shown = shown | truth
    edges = []
    for reader, writer in shown.nonzero().tolist():
        status: Status = "found" if expected[reader, writer] else "extra"
        if not circuit.mask[reader, writer]:
            status = "missing"
        target, _, kind = re.sub(r"\.([qkv])$", r" \1", graph.readers[reader]).partition(" ")
        score = None if sizes is None else float(sizes[reader, writer].clamp(-1, 1))
        edges.append(Edge(graph.writers[writer], target, kind, status, score))
    return edges


def _strongest(
    mask: Bool[Tensor, "reader writer"],
    scores: Float[Tensor, "reader writer"] | None,
    most: int,
) -> Bool[Tensor, "reader writer"]:
    edges = mask.flatten().nonzero().flatten()
    if scores is None:
        kept = edges[-most:]
    else:
        sizes = scores.abs().flatten()[edges]
        kept = edges[sizes.argsort(descending=True, stable=True)[:most]]
    strongest = mask.new_zeros(mask.numel())
    strongest[kept] = True
    return strongest.view_as(mask)


class Drawing:
    """Where a circuit's nodes and edges stand, in units of `INCHES`.

    Raises ValueError if there is no edge to draw.
    """

    def __init__(
        self,
        circuit: Circuit,
        ablation: Ablation,
        truth: Bool[Tensor, "reader writer"] | None = None,
        scores: Float[Tensor, "reader writer"] | None = None,
        most: int | None = None,
    ) -> None:
        self.edges = drawn_edges(circuit, ablation, truth, scores, most)
        if not self.edges:
            raise ValueError(
                f"none of the circuit's {circuit.n_edges} edges is live: nothing to draw"
            )
        self._shared = _shared_inputs(circuit.graph, self.edges)
        self._rows = node_rows(circuit.graph, self.edges)
        links = [(edge.source, edge.target) for edge in self.edges]
        self._placed = layout(self._rows, [*links, *self._shared])
        self._heights = _row_heights(self._placed, self._rows, self.edges)
        places = self._placed.places.values()
        self._middle = (min(places) + max(places)) / 2
        self.width, self.height = max(places) - min(places) + 1, self._heights[-1] + 1

    def draw(self, axes: Axes, width: float) -> None:
        """Fill the axes, which are `width` wide; the drawing stands in their middle."""
        axes.set_axis_off()
        axes.set_xlim(self._middle - width / 2, self._middle + width / 2)
        axes.set_ylim(-0.5, self._heights[-1] + 0.5)
        _draw_lines(axes, self.edges, self._shared, self._placed, self._rows, self._heights)
        for node, row in self._rows.items():
            _draw_node(axes, node, self._placed.places[node, row], self._heights[row])

    def legend(self) -> list[Line2D]:
        return legend_of(self.edges, self._shared)


def circuit_figure(
    circuit: Circuit,
    ablation: Ablation,
    *,
    title: str,
    caption: str,
    truth: Bool[Tensor, "reader writer"] | None = None,
    scores: Float[Tensor, "reader writer"] | None = None,
    most: int | None = None,
) -> Figure:
    """The drawing. Raises ValueError if there is no edge to draw."""
    drawing = Drawing(circuit, ablation, truth, scores, most)
    width = max(LEAST_WIDTH, INCHES * drawing.width + 2 * MARGIN)
    notes = textwrap.wrap(caption, int(CAPTION_CHARACTERS_PER_INCH * width))
    handles = drawing.legend()
    columns = min(len(handles), int(width / LEGEND_ENTRY_INCHES))
    above = 0.35 + CAPTION_LINE_INCHES * len(notes)
    below = 0.2 + LEGEND_LINE_INCHES * math.ceil(len(handles) / columns)
    height = INCHES * drawing.height + above + below
    with style():
        figure = Figure((width, height))
        axes = figure.add_axes((0, below / height, 1, 1 - (above + below) / height))
        drawing.draw(axes, width / INCHES)
        at = MARGIN / width
        figure.text(at, 1 - 0.1 / height, title, va="top", fontsize=10)
        figure.text(
            *(at, 1 - 0.32 / height, "\n".join(notes)), va="top", fontsize=7, color="#404040"
        )
        figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.2)
    return figure


def node_rows(graph: Graph, edges: Sequence[Edge]) -> dict[str, int]:
    """The row of each node that has an edge, from 0 and without empty rows.

    Key-value heads that heads share stand in a row of their own, below these.
    """
    heights = dict.fromkeys(graph.embeddings, 0) | {"out": 3 * graph.n_layers + 1}
    for layer in range(graph.n_layers):
        heights |= {f"a{layer}.kv{head}": 3 * layer + 1 for head in range(graph.n_kv_readers)}
        heights |= {f"a{layer}.h{head}": 3 * layer + 2 for head in range(graph.n_heads)}
        heights[f"m{layer}"] = 3 * layer + 3
    nodes = {node for edge in edges for node in (edge.source, edge.target)}
    used = sorted({heights[node] for node in nodes})
    return {node: used.index(height) for node, height in heights.items() if node in nodes}


def _shared_inputs(graph: Graph, edges: Sequence[Edge]) -> list[tuple[str, str]]:
    """The key-value heads that are drawn, with each head drawn that they feed."""
    if graph.n_kv_heads is None:
        return []
    nodes = {node for edge in edges for node in (edge.source, edge.target)}
    pairs = [
        (graph.readers[reader].rpartition(".")[0], graph.writers[writer])
        for reader, writer in graph.feeds.nonzero().tolist()
    ]
    return [pair for pair in dict.fromkeys(pairs) if ".kv" in pair[0] and nodes.issuperset(pair)]


def _row_heights(placed: Layout, rows: Mapping[str, int], edges: Sequence[Edge]) -> list[float]:
    """Rows stand the farther apart, the more edges run between them and the wider they reach."""
    gaps = [1.0] * max(rows.values())
    for edge in edges:
        row = rows[edge.target]
        foot = placed.foot(edge.source, row)
        reach = abs(placed.places[edge.target, row] - placed.places[foot])
        gaps[row - 1] += 0.02 + 0.01 * reach
    return [0.0, *np.cumsum(gaps).tolist()]


def _draw_lines(
    axes: Axes,
    edges: Sequence[Edge],
    shared: Sequence[tuple[str, str]],
    placed: Layout,
    rows: Mapping[str, int],
    heights: Sequence[float],
) -> None:
    half = BOX_HEIGHT / 2

    def start(point: tuple[str, int]) -> tuple[float, float]:
        node, row = point
        return placed.places[point], heights[row] + (half if row == rows[node] else 0)

    def end(node: str, kind: str) -> tuple[float, float]:
        row = rows[node]
        return placed.places[node, row] + _PORTS[kind], heights[row] - half

    for source, trunk in placed.trunks.items():
        for low, high in pairwise(trunk):
            beyond = [e for e in edges if e.source == source and rows[e.target] > high[1]]
            looks = {edge.look for edge in beyond}
            look = looks.pop() if len(looks) == 1 else _TRUNK
            width = max((edge.width for edge in beyond), default=PLAIN_WIDTH)
            _draw_line(axes, start(low), start(high), look, f"{source} to row {high[1]}", width)
    for source, target in shared:
        foot = placed.foot(source, rows[target])
        _draw_line(axes, start(foot), end(target, ""), _SHARED, f"{source} of {target}")
    for edge in edges:
        foot = placed.foot(edge.source, rows[edge.target])
        line = start(foot), end(edge.target, edge.kind)
        _draw_line(axes, *line, edge.look, edge.name, edge.width)


def _draw_line(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    look: Look,
    name: str,
    width: float = PLAIN_WIDTH,
) -> None:
    """Upright at both ends; `name` is the line's id in an SVG, `width` is in points."""
    middle = (start[1] + end[1]) / 2
    curve = Curve(
        [start, (start[0], middle), (end[0], middle), end],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    colour, dashes = look
    stands_out = look in _OFF_TRUTH.values()
    axes.add_patch(
        PathPatch(
            curve,
            fill=False,
            edgecolor=colour,
            linestyle=dashes,
            linewidth=max(1.6, width) if stands_out else width,
            zorder=2 if stands_out else 1,
            gid=name,
        )
    )


def _draw_node(axes: Axes, node: str, x: float, y: float) -> None:
    is_head = ".h" in node
    corner = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
    axes.add_patch(
        FancyBboxPatch(
            *(corner, BOX_WIDTH, BOX_HEIGHT),
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor="white" if is_head else "#ECECEC",
            edgecolor="#303030",
            linewidth=0.8,
            zorder=3,
        )
    )
    label = re.sub(r"^a(\d+)\.h?", r"\1.", node)
    axes.text(x, y, label, ha="center", va="center_baseline", fontsize=8, zorder=4, gid=node)


def legend_of(edges: Sequence[Edge], shared: Sequence[tuple[str, str]] = ()) -> list[Line2D]:
    """An entry for every kind of line among the edges."""
    shown = {edge.look for edge in edges}
    on_truth = {colour for colour, _ in shown - set(_OFF_TRUTH.values())}
    entries: dict[str, Look] = {
        name: (_COLOURS[kind], "-") for kind, name in _NAMES.items() if _COLOURS[kind] in on_truth
    }
    if len(entries) > 1:
        entries["shared trunk"] = _TRUNK
    if any(edge.score is not None and edge.score < 0 for edge in edges):
        entries["negative score"] = _NEGATIVE
    if shared:
        entries["key-value head of"] = _SHARED
    entries |= {f"{status} edge": look for status, look in _OFF_TRUTH.items() if look in shown}
    return [Line2D([], [], color=c, linestyle=s, label=name) for name, (c, s) in entries.items()]
