"""Circuits and scores survive a file, and are cut to size exactly."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgewise.circuit import SCHEMA, Circuit, Cut, EdgeScores, n_edges_at
from edgewise.graph import Ablation, Graph
from tests.models import ABLATIONS, random_masks

GRAPHS = {
    "separate": Graph(3, 3),
    "joint": Graph(3, 3, ("embed",)),
    "grouped": Graph(3, 4, ("tok",), n_kv_heads=2),
}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]


def random_scores(graph: Graph, selection: Any = "top", *, ties: bool = False) -> EdgeScores:
    values = torch.randn(graph.legal.shape)
    return EdgeScores(values.round() if ties else values, graph, selection=selection)


def test_a_circuit_survives_a_file(graph: Graph, tmp_path: Path) -> None:
    mask = random_masks(graph, 1, density=0.4)[0]
    meta = {"method": "acdc", "threshold": 1e-3, "seeds": [0, 1], "nothing": None}
    extra = {"log_alpha": torch.randn(graph.legal.shape), "curve": torch.arange(5)}
    circuit = Circuit(mask, graph, meta, extra)
    circuit.save(tmp_path / "circuit.safetensors")
    loaded = Circuit.load(tmp_path / "circuit.safetensors")
    assert torch.equal(loaded.mask, mask & graph.legal)
    assert (loaded.graph, loaded.meta) == (graph, meta)
    assert loaded.extra.keys() == extra.keys()
    assert all(torch.equal(loaded.extra[name], extra[name]) for name in extra)


@pytest.mark.parametrize("selection", get_args(Cut))
def test_scores_survive_a_file(graph: Graph, tmp_path: Path, selection: Any) -> None:
    values = torch.randn(graph.legal.shape)
    given: Any = ({"method": "eap"}, {"signed": values}, selection, "zero")
    scores = EdgeScores(values, graph, *given)
    scores.save(tmp_path / "scores.safetensors")
    loaded = EdgeScores.load(tmp_path / "scores.safetensors")
    assert torch.equal(loaded.values, values) and torch.equal(loaded.extra["signed"], values)
    assert (loaded.graph, loaded.meta, loaded.selection) == (graph, {"method": "eap"}, selection)
    assert torch.equal(loaded.ranking(), scores.ranking())
    assert loaded.ablation == ("zero" if selection == "connected" else "interchange")


def test_the_file_names_its_writers_readers_and_graph(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "circuit.safetensors"
    Circuit(graph.legal, graph, {"model": "tiny"}).save(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["edgewise"])
    assert header["writers"] == list(graph.writers)
    assert header["readers"] == list(graph.readers)
    assert Graph.from_json(header["graph"]) == graph
    assert header["meta"] == {"model": "tiny"}


def test_a_file_of_the_other_kind_is_an_error_that_says_so(tmp_path: Path) -> None:
    graph, path = GRAPHS["separate"], tmp_path / "file.safetensors"
    Circuit(graph.legal, graph).save(path)
    with pytest.raises(ValueError, match="holds 'Circuit'; expected 'EdgeScores'"):
        EdgeScores.load(path)
    random_scores(graph).save(path)
    with pytest.raises(ValueError, match="holds 'EdgeScores'; expected 'Circuit'"):
        Circuit.load(path)


def test_a_file_from_a_newer_version_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "circuit.safetensors"
    header = {"schema": SCHEMA + 1, "kind": "Circuit", "something": "new"}
    save_file({"mask": torch.ones(1)}, path, metadata={"edgewise": json.dumps(header)})
    with pytest.raises(ValueError, match=f"has schema {SCHEMA + 1}; this version reads up to"):
        Circuit.load(path)


def test_a_file_that_is_something_else_is_an_error_that_says_so(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no tensors here, but long enough to be taken for a header")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        Circuit.load(text)
    weights = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2)}, weights)
    with pytest.raises(ValueError, match="holds None; expected 'Circuit'"):
        Circuit.load(weights)


def test_a_circuit_holds_edges_alone_and_counts_them(graph: Graph) -> None:
    circuit = Circuit(torch.ones_like(graph.legal), graph)
    assert torch.equal(circuit.mask, graph.legal)
    assert (circuit.n_edges, circuit.sparsity) == (graph.n_edges, 0)
    half = EdgeScores(torch.rand(graph.legal.shape), graph).circuit(graph.n_edges // 2)
    assert half.sparsity == pytest.approx(1 - (graph.n_edges // 2) / graph.n_edges)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_live_sparsity_counts_live_edges(graph: Graph, ablation: Any) -> None:
    circuit = Circuit(random_masks(graph, 1, density=0.2)[0], graph)
    live = Circuit(graph.live(circuit.mask, ablation), graph)
    assert circuit.live_sparsity(ablation) == live.sparsity == live.live_sparsity(ablation)
    assert circuit.live_sparsity(ablation) > circuit.sparsity


@pytest.mark.parametrize("ties", [True, False])
def test_top_scores_are_ranked_by_value_then_by_index(graph: Graph, ties: bool) -> None:
    scores = random_scores(graph, ties=ties)
    flat = scores.values.flatten().tolist()
    edges = graph.legal.flatten().nonzero().flatten().tolist()
    assert scores.ranking().tolist() == sorted(edges, key=lambda edge: (-flat[edge], edge))


def naive_greedy(scores: EdgeScores) -> list[int]:
    """Every step looks through all edges for the best one whose reader is attached."""
    graph, n_writers = scores.graph, len(scores.graph.writers)
    attached, grown = {"out"}, []
    left = graph.legal.flatten().nonzero().flatten().tolist()
    while left:
        ready = [edge for edge in left if graph.readers[edge // n_writers] in attached]
        best = min(ready, key=lambda edge: (-float(scores.values.flatten()[edge]), edge))
        left.remove(best)
        grown.append(best)
        writer = graph.writers[best % n_writers]
        layer, _, head = writer.partition(".h")
        attached |= {reader for reader in graph.readers if reader == writer}
        attached |= {reader for reader in graph.readers if reader.startswith(f"{layer}.h{head}.")}
        if graph.n_kv_heads is not None and head:
            shared = int(head) // (graph.n_heads // graph.n_kv_heads)
            attached |= {f"{layer}.kv{shared}.{kind}" for kind in "kv"}
    return grown


@pytest.mark.parametrize("ties", [True, False])
def test_greedy_growth_is_that_of_its_naive_twin(graph: Graph, ties: bool) -> None:
    scores = random_scores(graph, "greedy", ties=ties)
    assert scores.ranking().tolist() == naive_greedy(scores)


def test_greedily_grown_circuits_hold_no_edge_that_cannot_reach_the_output(graph: Graph) -> None:
    scores = random_scores(graph, "greedy")
    for n_edges in range(0, graph.n_edges, 7):
        mask = scores.circuit(n_edges).mask
        assert torch.equal(graph.live(mask, "zero"), mask)


@pytest.mark.parametrize("selection", ["top", "greedy"])
def test_circuits_have_exactly_the_size_asked_for_and_are_nested(
    graph: Graph, selection: Any
) -> None:
    scores = random_scores(graph, selection, ties=True)
    before: Tensor = torch.zeros_like(graph.legal)
    for n_edges in range(graph.n_edges + 1):
        circuit = scores.circuit(n_edges)
        assert circuit.n_edges == n_edges
        assert torch.equal(circuit.mask & before, before)
        before = circuit.mask
    assert torch.equal(before, graph.legal)


def test_scores_that_are_not_finite_are_ranked_last_or_first(graph: Graph) -> None:
    values = torch.randn(graph.legal.shape)
    edges = graph.legal.flatten().nonzero().flatten()
    values.view(-1)[edges[:3]] = torch.tensor([torch.nan, -torch.inf, torch.inf])
    scores = EdgeScores(values, graph)
    ranking = scores.ranking()
    assert ranking[0] == edges[2] and ranking[-2:].tolist() == edges[:2].tolist()
    assert scores.circuit(graph.n_edges).n_edges == graph.n_edges


@pytest.mark.parametrize("n_edges", [-1, 10**6])
def test_a_size_that_the_graph_does_not_have_is_an_error(graph: Graph, n_edges: int) -> None:
    with pytest.raises(ValueError, match=f"{n_edges} edges asked for; this graph has 0 to"):
        random_scores(graph).circuit(n_edges)


def test_a_sparsity_is_rounded_to_the_nearest_number_of_edges() -> None:
    graph = Graph(12, 12)
    assert [n_edges_at(graph, s) for s in (0.0, 0.5, 0.95, 0.999, 1.0)] == [
        32936,
        16468,
        1647,
        33,
        0,
    ]


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_connected_circuit_has_as_many_live_edges_as_were_asked_for(
    graph: Graph, ablation: Ablation
) -> None:
    """Of very few edges it may have fewer: a path past `tok->out` takes two at once."""
    values = torch.randn(graph.legal.shape, generator=torch.Generator().manual_seed(0))
    scores = EdgeScores(values, graph, selection="connected", ablation=ablation)
    most = int(graph.live(graph.legal, ablation).sum())
    for n_edges in (0, 1, 2, 3, 10, most // 2, most - 1, most, graph.n_edges):
        circuit = scores.circuit(n_edges)
        assert circuit.live_sparsity(ablation) == circuit.sparsity
        assert circuit.n_edges == min(n_edges, most) or circuit.n_edges < n_edges < 3


def test_a_connected_circuit_is_the_top_one_without_its_dead_ends(graph: Graph) -> None:
    """Where these are no more than asked for: here all edges of the top circuit's live part."""
    values = torch.randn(graph.legal.shape, generator=torch.Generator().manual_seed(1))
    top = EdgeScores(values, graph).circuit(graph.n_edges // 3)
    live = graph.live(top.mask, "interchange")
    found = EdgeScores(values, graph, selection="connected").circuit(int(live.sum()))
    assert torch.equal(found.mask, live)
