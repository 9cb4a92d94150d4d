"""The circuits of the page's explorer, graph by graph: nodes, edges in order, signs and scores."""

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.drawing.draw import known_truths
from benchmarks.drawing.style import method_style
from benchmarks.report.page.data import Datum
from benchmarks.report.panels import Panel, Row, grouped
from benchmarks.report.results import Results
from benchmarks.store import first_of
from edgewise import Circuit, EdgeScores, Graph

STRONGEST = 500
"""The most edges of a ranking in the page."""
MOST_CIRCUITS = 60
"""The most circuits and rankings of one graph in the page."""
TRUE = "true circuit"
_KINDS = {"q": "q", "k": "k", "v": "v"}


@dataclass(frozen=True)
class Explored:
    """One graph with its circuits: `nodes`, `readers` and `writers` say where they stand."""

    name: str
    nodes: Sequence[Datum]
    writers: Sequence[Datum]
    readers: Sequence[Datum]
    circuits: Sequence[Datum]
    n_edges: int
    is_cut: bool
    rows: int
    columns: int
    source: str = ""
    kinds: Sequence[str] = field(default_factory=list)


def explored(results: Results, best: Sequence[str] = ()) -> list[Explored]:
    """Every graph with the circuits found in it; of each setting, those of one seed.

    Circuits of the cells in `best` come first.
    """
    by_graph = grouped(results.panels, lambda panel: (panel.model, panel.records[0].graph))
    names = [panels[0].model for panels in by_graph.values()]
    found: list[Explored] = []
    for (model, graph), panels in by_graph.items():
        name = model if names.count(model) == 1 else f"{model}, {graph.partition(' (')[0]}"
        if (one := _explored(name, panels, results, best)) is not None:
            found.append(one)
    return found


def _explored(
    name: str, panels: Sequence[Panel], results: Results, best: Sequence[str]
) -> Explored | None:
    entries: list[list[Datum]] = []
    graph: Graph | None = None
    for panel in panels:
        prefix = f"{panel.heading} · " if len(panels) > 1 else ""
        for row in _chosen(panel):
            found = first_of(results.store.discovery(row.cell))
            graph = found.graph
            label = " · ".join(filter(None, [method_style(row.method).label, _detail(row)]))
            sizes = {other.edges for other in panel.rows if other.cell == row.cell}
            listed = [{"c": prefix + label, **datum} for datum in _listed(found, sizes)]
            entries.insert(0 if row.cell in best else len(entries), listed)
        if panel.records[0].true_circuits:
            entries += [[truth] for truth in _truths(panel, prefix)]
    if graph is None:
        return None
    circuits = [datum for listed in entries[:MOST_CIRCUITS] for datum in listed]
    roles, source = _roles(panels)
    placed = _Places(graph)
    writers = [
        {"w": i, "from": writer, **placed.above(writer)} for i, writer in enumerate(graph.writers)
    ]
    readers = [
        {"r": i, "to": reader, "into": _node(reader), **placed.below(reader)}
        for i, reader in enumerate(graph.readers)
    ]
    kinds = list(dict.fromkeys(reader["kind"] for reader in readers))
    return Explored(
        name=name,
        nodes=[{**node, "role": roles.get(node["node"], "")} for node in placed.nodes()],
        writers=writers,
        readers=readers,
        circuits=circuits,
        n_edges=graph.n_edges,
        is_cut=any(len(one["e"]) == STRONGEST for one in circuits),
        rows=placed.rows,
        columns=placed.columns,
        source=source,
        kinds=kinds,
    )


def _chosen(panel: Panel) -> list[Row]:
    """Of each ranking the variant best on validation, of each setting a circuit, of one seed."""
    best = panel.rankings()
    rankings = [rows[0] for rows in best.values()]
    found = [row for row in panel.rows if row.is_found]
    by_setting = grouped(found, lambda row: (row.method, row.setting)).values()
    return rankings + [min(rows, key=lambda row: row.seed) for rows in by_setting]


def _detail(row: Row) -> str:
    """The number of edges of what was found, then the setting."""
    return (
        ", ".join(filter(None, [f"{row.edges:,} edges", row.setting]))
        if row.is_found
        else row.variant
    )


def _listed(found: Circuit | EdgeScores, sizes: Collection[int]) -> list[Datum]:
    """Flat indices of edges, best first; their scores by size, with signs where there are any.

    Each is shown while the size asked for lies from `least` to `most`: of a ranking (`n` is 1) as
    many edges as are asked for, others whole. A connected ranking is no order in which edges are
    added, so its circuits of the evaluated `sizes` are listed one by one. Each is shown up to the
    size of the next, and the smallest at smaller sizes, too.
    """
    if isinstance(found, Circuit):
        edges = found.mask.flatten().nonzero().flatten()
        scores = found.extra.get("log_alpha")
        if scores is None or scores.shape != found.mask.shape:
            return [_datum(edges, found.mask)]
        edges = edges[scores.flatten()[edges].argsort(descending=True)]
        return [_datum(edges, found.mask, scores)]
    signed, order = found.extra.get("signed"), found.ranking()
    scores = found.values if signed is None else signed
    has_sign = signed is not None or bool((scores.flatten()[order[:STRONGEST]] < 0).any())
    if found.selection != "connected":
        return [{**_datum(order, found.values, scores, has_sign=has_sign), "n": 1}]
    cuts = sorted(size for size in sizes if size > 0)
    cuts = [size for size in cuts if size <= STRONGEST] or cuts[:1]
    listed: list[Datum] = []
    for least, size, after in zip([0, *cuts[1:]], cuts, [*cuts[1:], STRONGEST + 1], strict=True):
        edges = order[found.circuit(size).mask.flatten()[order]]
        datum = _datum(edges, found.values, scores, has_sign=has_sign)
        listed.append({**datum, "least": least, "most": after - 1})
    return listed


def _datum(
    edges: torch.Tensor,
    table: torch.Tensor,
    scores: torch.Tensor | None = None,
    *,
    has_sign: bool = False,
) -> Datum:
    """These edges of a table of readers by writers, best first, shown whole at every size."""
    edges = edges[:STRONGEST]
    values = None if scores is None else scores.flatten()[edges]
    return {
        "n": 0,
        "least": 0,
        "most": STRONGEST,
        "e": edges.tolist(),
        "s": _widths(values, len(edges), signed=has_sign),
        "W": table.shape[1],
    }


def _widths(values: torch.Tensor | None, n: int, *, signed: bool) -> list[float]:
    """The root of each size over the greatest, from 0.05 to 1, negative where the score is.

    Without a sign 2 is added: the chart tells these by it.
    """
    if values is None:
        return [2.5] * n
    numbers = values.double().nan_to_num(0, 0, 0).numpy()
    if not signed:
        numbers = numbers - min(0.0, float(numbers.min(initial=0)))
    top = float(np.abs(numbers).max(initial=0)) or 1.0
    widths = np.maximum(np.sqrt(np.abs(numbers) / top), 0.05).round(2)
    return (np.where(numbers < 0, -widths, widths) if signed else widths + 2).round(2).tolist()


def _truths(panel: Panel, prefix: str) -> list[Datum]:
    first = panel.records[0]
    truths = known_truths(panel.task, first.ablation, first.definition.weights)
    names = [TRUE] if len(truths) == 1 else [f"{TRUE} {i}" for i in range(1, 1 + len(truths))]
    edges = [truth.flatten().nonzero().flatten() for truth in truths]
    return [
        {"c": f"{prefix}{name} ({len(own)} edges)", **_datum(own, truth)}
        for name, own, truth in zip(names, edges, truths, strict=True)
    ]


class _Places:
    """Layers upwards: a row of heads and, above it, the MLP; `out` on top."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.columns = max(graph.n_heads, 2)
        self.rows = 2 * graph.n_layers + 2

    def nodes(self) -> list[Datum]:
        names = dict.fromkeys([*self.graph.writers, *map(_node, self.graph.readers)])
        return [
            {
                "node": name,
                "label": re.sub(r"^a(\d+)\.h?", r"\1.", name),
                "x": x,
                "y": y,
                "wide": wide,
            }
            for name in names
            for x, y, wide in [self._of(name)]
        ]

    def above(self, writer: str) -> Datum:
        x, y, _ = self._of(writer)
        return {"x1": x, "y1": round(y + 0.27, 2)}

    def below(self, reader: str) -> Datum:
        node, kind = _node(reader), _kind(reader)
        x, y, _ = self._of(node)
        offset = {"q": -0.25, "v": 0.25}.get(kind, 0.0)
        return {"x2": round(x + offset, 2), "y2": round(y - 0.27, 2), "kind": kind}

    def _of(self, node: str) -> tuple[float, float, int]:
        """Where a node's middle stands, and whether it is wide."""
        middle = (self.columns - 1) / 2
        if node == "out":
            return middle, self.rows - 1, 1
        if node in self.graph.embeddings:
            tables = list(self.graph.embeddings)
            return middle + 1.5 * (tables.index(node) - (len(tables) - 1) / 2), 0, 1
        found = re.fullmatch(r"(?:a(\d+)\.(?:h|kv)(\d+)|m(\d+))", node)
        assert found is not None, f"{node} is no node of a graph"
        if found[3] is not None:
            return middle, 2 * int(found[3]) + 2, 1
        head, share = int(found[2]), 1.0
        if ".kv" in node:
            share = self.graph.n_heads / self.graph.n_kv_readers
        return (head + 0.5) * share - 0.5, 2 * int(found[1]) + (0.6 if ".kv" in node else 1), 0


def _node(reader: str) -> str:
    return re.sub(r"\.[qkv]$", "", reader)


def _kind(reader: str) -> str:
    if reader == "out":
        return "out"
    return reader[-1] if reader[-1] in _KINDS and "." in reader else "MLP"


def _roles(panels: Iterable[Panel]) -> tuple[Mapping[str, str], str]:
    """Heads' published roles, where they are known for a panel's model and task, and the source."""
    for panel in panels:
        for known in _published():
            if panel.model in known["models"] and panel.task in known["tasks"]:
                roles = {head: role for role, heads in known["roles"].items() for head in heads}
                return roles, known["source"]
    return {}, ""


@cache
def _published() -> Sequence[Mapping[str, Any]]:
    path = Path(__file__).parent / "roles.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["of"]
