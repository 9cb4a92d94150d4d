"""The graph's edges, names and order, and which edges of a circuit are live."""

import json
from typing import Any

import pytest
import torch

from edgewise.graph import Ablation, Graph
from tests.models import ABLATIONS, random_masks

GRAPHS = {
    "separate": Graph(3, 4),
    "joint": Graph(3, 4, ("embed",)),
    "rotary": Graph(3, 4, ("tok",)),
    "grouped": Graph(3, 4, ("tok",), n_kv_heads=2),
    "one key-value head": Graph(2, 4, ("tok",), n_kv_heads=1),
    "parallel": Graph(3, 4, ("tok",), parallel=True),
    "coupled": Graph(3, 4, ("tok",), coupled_heads=True),
    "coupled, grouped": Graph(2, 4, ("tok",), n_kv_heads=2, parallel=True, coupled_heads=True),
}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]


def test_gpt2_small_has_32936_edges_and_32491_with_joint_embeddings() -> None:
    separate, joint = Graph(12, 12), Graph(12, 12, ("embed",))
    assert (len(separate.writers), len(separate.readers), separate.n_edges) == (158, 445, 32_936)
    assert (len(joint.writers), len(joint.readers), joint.n_edges) == (157, 445, 32_491)


@pytest.mark.parametrize("n_kv_heads", [None, 1, 2, 8])
@pytest.mark.parametrize("embeddings", [("tok", "pos"), ("tok",)], ids=len)
def test_the_number_of_edges_follows_from_the_shape(
    n_kv_heads: int | None, embeddings: tuple[str, ...]
) -> None:
    layers, heads = 5, 8
    readers = heads + 2 * (n_kv_heads or heads)
    edges, before = 0, len(embeddings)
    for _ in range(layers):
        edges += readers * before + (before + heads)
        before += heads + 1
    assert Graph(layers, heads, embeddings, n_kv_heads).n_edges == edges + before


def test_writers_and_readers_are_named_in_the_order_of_the_graph() -> None:
    graph = Graph(2, 2)
    assert graph.writers == ("tok", "pos", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")
    assert graph.readers == (
        *("a0.h0.q", "a0.h1.q", "a0.h0.k", "a0.h1.k", "a0.h0.v", "a0.h1.v", "m0"),
        *("a1.h0.q", "a1.h1.q", "a1.h0.k", "a1.h1.k", "a1.h0.v", "a1.h1.v", "m1"),
        "out",
    )


def test_grouped_key_and_value_readers_are_named_by_their_key_value_head() -> None:
    graph = Graph(1, 4, ("tok",), n_kv_heads=2)
    queries = tuple(f"a0.h{head}.q" for head in range(4))
    shared = ("a0.kv0.k", "a0.kv1.k", "a0.kv0.v", "a0.kv1.v")
    assert graph.readers == (*queries, *shared, "m0", "out")


def depth(name: str, graph: Graph) -> float:
    """When a component runs: embeddings first, an attention block before or with its MLP."""
    if name == "out":
        return float("inf")
    if name in ("tok", "pos", "embed"):
        return -1
    return int(name.split(".")[0][1:]) + (0.5 if name.startswith("m") and not graph.parallel else 0)


def test_an_edge_is_legal_where_the_writer_runs_before_the_reader(graph: Graph) -> None:
    for reader, row in zip(graph.readers, graph.legal, strict=True):
        for writer, legal in zip(graph.writers, row.tolist(), strict=True):
            assert legal == (depth(writer, graph) < depth(reader, graph)), f"{writer}->{reader}"
    assert graph.n_edges == graph.legal.sum()


def test_blocks_cover_all_readers_and_writers_in_order(graph: Graph) -> None:
    readers = [reader for block in graph.blocks for reader in graph.readers[block.readers]]
    writers = [writer for block in graph.blocks for writer in graph.writers[block.writers]]
    assert tuple(readers) == graph.readers
    assert (*graph.embeddings, *writers) == graph.writers
    for block in graph.blocks:
        assert bool(graph.legal[block.readers, : block.n_legal].all())
        assert not bool(graph.legal[block.readers, block.n_legal :].any())


def owners(reader: str, graph: Graph) -> list[str]:
    """The writers whose outputs a reader's input changes, by name."""
    if not reader.startswith("a"):
        return [] if reader == "out" else [reader]
    layer, head, _ = reader.split(".")
    if graph.coupled_heads:
        return [f"{layer}.h{which}" for which in range(graph.n_heads)]
    if head.startswith("h"):
        return [f"{layer}.{head}"]
    assert graph.n_kv_heads is not None
    each = graph.n_heads // graph.n_kv_heads
    first = int(head.removeprefix("kv")) * each
    return [f"{layer}.h{which}" for which in range(first, first + each)]


def live_by_paths(graph: Graph, edges: set[tuple[str, str]], ablation: Ablation) -> set[str]:
    """Live edges by following names until nothing changes, each edge on its own."""
    inputs = {writer: set[str]() for writer in graph.writers}
    for reader in graph.readers:
        for writer in owners(reader, graph):
            inputs[writer].add(reader)

    def useful(reader: str) -> bool:
        return reader == "out" or any(
            useful(next_reader)
            for owner in owners(reader, graph)
            for writer, next_reader in edges
            if writer == owner
        )

    def reached(writer: str) -> bool:
        return writer == graph.embeddings[0] or any(
            reached(source)
            for reader in inputs[writer]
            for source, target in edges
            if target == reader
        )

    return {
        f"{writer}->{reader}"
        for writer, reader in edges
        if useful(reader) and (ablation != "interchange" or reached(writer))
    }


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_live_edges_are_those_found_by_following_names(ablation: Ablation) -> None:
    for graph in (Graph(2, 2), Graph(2, 4, ("tok",), n_kv_heads=2), Graph(2, 2, ("embed",))):
        masks = random_masks(graph, 30, density=0.15)
        live = graph.live(masks, ablation)
        for mask, found in zip(masks, live, strict=True):
            edges = {
                (writer, reader)
                for writer, _, reader in (
                    name.partition("->") for name in graph.edge_names(mask & graph.legal)
                )
            }
            assert set(graph.edge_names(found)) == live_by_paths(graph, edges, ablation)
        assert live.any() and not torch.equal(live, masks & graph.legal)


def test_positions_are_never_live_under_interchange_alone() -> None:
    graph = Graph(2, 2)
    for ablation in ABLATIONS:
        live = graph.live(graph.legal, ablation)
        assert bool(live[:, 1].any()) == (ablation != "interchange")
    without = graph.legal.clone()
    without[:, 1] = False
    assert torch.equal(graph.live(graph.legal, "interchange"), without)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_live_edges_of_a_batch_are_those_of_each_mask(graph: Graph, ablation: Any) -> None:
    masks = random_masks(graph, 5, density=0.2)
    one_by_one = torch.stack([graph.live(mask, ablation) for mask in masks])
    assert torch.equal(graph.live(masks, ablation), one_by_one)


def test_a_mask_survives_its_edges_names(graph: Graph) -> None:
    mask = random_masks(graph, 1, density=0.3)[0] & graph.legal
    names = graph.edge_names(mask)
    assert len(names) == mask.sum()
    assert torch.equal(graph.mask_of(names), mask)


@pytest.mark.parametrize("edge", ["tok", "tok->m9", "nothing->out", "->", "tok->m0->out"])
def test_an_edge_name_that_the_graph_lacks_is_an_error_that_shows_one(edge: str) -> None:
    with pytest.raises(ValueError, match=r"no edge .* expected writer->reader, such as tok->a0"):
        Graph(2, 2).mask_of([edge])


def test_an_edge_backwards_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"no edge 'm1->m0'.*m1 does not come before m0"):
        Graph(2, 2).mask_of(["tok->m0", "m1->m0"])


def test_a_graph_survives_json(graph: Graph) -> None:
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def test_the_convention_states_the_number_of_edges_and_the_choices_behind_it() -> None:
    assert Graph(12, 12).convention == ("32,936 edges (tok+pos embeddings, k and v per query head)")
    assert "k and v per key-value head" in GRAPHS["grouped"].convention
    assert "embed embeddings" in GRAPHS["joint"].convention


def test_no_edge_leads_from_heads_to_an_mlp_that_works_beside_them() -> None:
    graph = Graph(2, 3, ("tok",), parallel=True)
    with pytest.raises(ValueError, match="a1\\.h0 does not come before m1"):
        graph.mask_of(["a1.h0->m1"])
    assert graph.mask_of(["a0.h0->m1", "m0->a1.h0.q", "a1.h0->out"]).sum() == 3
    assert graph.n_edges == Graph(2, 3, ("tok",)).n_edges - 2 * 3
    assert graph.convention.endswith("k and v per query head, attention and MLP in parallel)")


def test_coupled_heads_depend_on_each_others_inputs_and_keep_their_own_readers() -> None:
    graph = Graph(1, 2, ("tok",), coupled_heads=True)
    mask = graph.mask_of(["tok->a0.h0.q", "a0.h1->out"])
    assert bool((graph.live(mask, "interchange") == mask).all())
    apart = Graph(1, 2, ("tok",))
    assert not bool(apart.live(mask, "interchange").any())
    assert bool((graph.feeds == apart.feeds).all())


def test_only_unusual_graphs_are_stored_with_what_is_unusual() -> None:
    assert set(Graph(1, 2).to_json()) == {"n_layers", "n_heads", "embeddings", "n_kv_heads"}
    for graph in GRAPHS.values():
        assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
