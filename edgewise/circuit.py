"""Circuits and edge scores, the results of a discovery: cutting to size, saving, loading.

Each is one safetensors file whose JSON header holds the graph convention, the writers' and readers'
names and `meta`: where it came from.
"""

import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgewise.graph import Ablation, Graph

SCHEMA = 1
Cut = Literal["top", "greedy", "connected"]
"""How a circuit is cut from a ranking."""


@dataclass(frozen=True, eq=False)
class Circuit:
    """A binary mask; `meta` says where it came from, `extra` are tensors kept with it."""

    mask: Bool[Tensor, "reader writer"]
    graph: Graph
    meta: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", self.mask.cpu() & self.graph.legal)

    @property
    def n_edges(self) -> int:
        return int(self.mask.sum())

    @property
    def sparsity(self) -> float:
        """1 − edges in the circuit / edges in the graph."""
        return 1 - self.n_edges / self.graph.n_edges

    def live_sparsity(self, ablation: Ablation) -> float:
        """The sparsity that counts only live edges as part of the circuit."""
        return 1 - int(self.graph.live(self.mask, ablation).sum()) / self.graph.n_edges

    def save(self, path: Path) -> None:
        _save(path, "Circuit", self.graph, self.meta, {"mask": self.mask, **self.extra})

    @classmethod
    def load(cls, path: Path) -> "Circuit":
        """Raises ValueError for a file that is no circuit or comes from a newer version."""
        graph, meta, tensors = _load(path, "Circuit")
        return cls(tensors.pop("mask"), graph, meta, tensors)


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """One number per edge, higher = kept first, and the rule by which circuits are cut from them.

    `top` keeps the highest scores. `greedy` grows from `out`: of the edges whose reader already
    belongs to the circuit, the highest is taken, and its writer's readers join (EAP-IG's rule).
    `connected` keeps the highest scores without dead ends, as many as make the number of edges
    asked for: all of them are live under `ablation`.
    """

    values: Float[Tensor, "reader writer"]
    graph: Graph
    meta: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    selection: Cut = "top"
    ablation: Ablation = "interchange"

    def ranking(self) -> Int[Tensor, " edge"]:
        """All edges as flat indices `reader * n_writers + writer`, best first, ties by index."""
        edges = self.graph.legal.flatten().nonzero().flatten()
        values = self.values.cpu().flatten()[edges].nan_to_num(-torch.inf, torch.inf, -torch.inf)
        order = edges[torch.sort(values, descending=True, stable=True).indices]
        return self._grow(order) if self.selection == "greedy" else order

    def _grow(self, order: Int[Tensor, " edge"]) -> Int[Tensor, " edge"]:
        """The greedy order: again and again the best-ranked edge whose reader is attached."""
        n_writers = len(self.graph.writers)
        rank = torch.empty(self.graph.legal.numel(), dtype=torch.long)
        rank[order] = torch.arange(len(order))
        edges_into = [
            [int(rank[reader * n_writers + writer]) for writer in row.nonzero().flatten().tolist()]
            for reader, row in enumerate(self.graph.legal)
        ]
        inputs_of = [column.nonzero().flatten().tolist() for column in self.graph.feeds.T]
        frontier = list(edges_into[-1])
        heapq.heapify(frontier)
        attached = {len(edges_into) - 1}
        grown: list[int] = []
        while frontier:
            edge = int(order[heapq.heappop(frontier)])
            grown.append(edge)
            for reader in inputs_of[edge % n_writers]:
                if reader not in attached:
                    attached.add(reader)
                    for candidate in edges_into[reader]:
                        heapq.heappush(frontier, candidate)
        return torch.tensor(grown)

    def circuit(self, n_edges: int) -> Circuit:
        """The circuit of the first `n_edges` edges. Raises ValueError if the graph has fewer.

        A connected circuit has fewer if no more can be live (under interchange ablation nothing
        changes at the position embeddings), or if more edges would come to life than are wanted.
        """
        if not 0 <= n_edges <= self.graph.n_edges:
            raise ValueError(
                f"{n_edges} edges asked for; this graph has 0 to {self.graph.n_edges:,}"
            )
        order = self.ranking()
        mask = (
            self._connected(order, n_edges)
            if self.selection == "connected"
            else self._mask(order[:n_edges])
        )
        return Circuit(mask, self.graph, self.meta)

    def _connected(
        self, order: Int[Tensor, " edge"], n_edges: int
    ) -> Bool[Tensor, "reader writer"]:
        """The live edges of the longest start of the ranking that has no more than `n_edges`.

        Where the next edge would bring several to life, and too many, later ones are tried.
        """

        def live(edges: Int[Tensor, " some"]) -> Bool[Tensor, "reader writer"]:
            return self.graph.live(self._mask(edges), self.ablation)

        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            if int(live(order[:middle]).sum()) <= n_edges:
                low = middle
            else:
                high = middle - 1
        kept, found = order[:low], live(order[:low])
        for edge in order[low:]:
            if int(found.sum()) == n_edges:
                break
            more = torch.cat([kept, edge[None]])
            if int(live(more).sum()) <= n_edges:
                kept, found = more, live(more)
        return found

    def _mask(self, edges: Int[Tensor, " some"]) -> Bool[Tensor, "reader writer"]:
        mask = torch.zeros(self.graph.legal.numel(), dtype=torch.bool)
        mask[edges] = True
        return mask.view_as(self.graph.legal)

    def save(self, path: Path) -> None:
        meta = {**self.meta, "selection": self.selection}
        if self.selection == "connected":
            meta["ablation"] = self.ablation
        _save(path, "EdgeScores", self.graph, meta, {"values": self.values, **self.extra})

    @classmethod
    def load(cls, path: Path) -> "EdgeScores":
        """Raises ValueError for a file that holds no scores or comes from a newer version."""
        graph, meta, tensors = _load(path, "EdgeScores")
        selection, ablation = meta.pop("selection"), meta.pop("ablation", "interchange")
        return cls(tensors.pop("values"), graph, meta, tensors, selection, ablation)


def n_edges_at(graph: Graph, sparsity: float) -> int:
    """How many edges a circuit of this sparsity has: E(1 − s), rounded."""
    return round(graph.n_edges * (1 - sparsity))


def _save(
    path: Path, kind: str, graph: Graph, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    header = {
        "schema": SCHEMA,
        "kind": kind,
        "graph": graph.to_json(),
        "writers": graph.writers,
        "readers": graph.readers,
        "meta": dict(meta),
    }
    save_file(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()},
        path,
        metadata={"edgewise": json.dumps(header, sort_keys=True)},
    )


def _load(path: Path, kind: str) -> tuple[Graph, dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("edgewise", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    if header.get("kind") != kind:
        raise ValueError(f"{path} holds {header.get('kind')!r}; expected {kind!r}")
    if header["schema"] > SCHEMA:
        raise ValueError(
            f"{path} has schema {header['schema']}; this version reads up to {SCHEMA}: upgrade"
        )
    return Graph.from_json(header["graph"]), header["meta"], tensors
