"""The control: edges ranked by random paths from `out` to `tok`, and by nothing else."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from edgewise.circuit import EdgeScores
from edgewise.graph import Graph
from edgewise.transformer import MaskedTransformer
from methods.random import Random
from tests.methods import toys

GRAPHS = {
    "two embeddings": Graph(2, 3),
    "one embedding": Graph(3, 2, embeddings=("embed",)),
    "key-value heads": Graph(2, 4, embeddings=("tok",), n_kv_heads=2),
}
GPT2_SMALL = Graph(12, 12)
EACH_GRAPH = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())


class GraphOnly(MaskedTransformer):
    """A model of which nothing but the graph may be looked at."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph


def rankings(graph: Graph, draws: int, *, seed: int = 0) -> list[EdgeScores]:
    generator = torch.Generator().manual_seed(seed)
    return Random(draws).discover(GraphOnly(graph), toys.task(), generator=generator)


def edges_of(scores: EdgeScores) -> list[tuple[int, int]]:
    """(reader, writer), best first."""
    n_writers = len(scores.graph.writers)
    return [divmod(edge, n_writers) for edge in scores.ranking().tolist()]


def can_be_visited(graph: Graph) -> Tensor:
    """All edges but those of the position embedding."""
    visitable = graph.legal.clone()
    if "pos" in graph.writers:
        visitable[:, graph.writers.index("pos")] = False
    return visitable


@EACH_GRAPH
def test_a_ranking_holds_every_edge_once(graph: Graph) -> None:
    for scores in rankings(graph, 3):
        edges = edges_of(scores)
        assert sorted(edges) == sorted(tuple(edge) for edge in graph.legal.nonzero().tolist())
        assert len(scores.values[graph.legal].unique()) == graph.n_edges, "no ties"


@EACH_GRAPH
def test_paths_run_from_out_backwards_until_the_token_embedding(graph: Graph) -> None:
    """All edges of the first path are visited for the first time, so it opens the ranking."""
    lengths = set()
    for scores in rankings(graph, 50):
        edges = edges_of(scores)
        end = next(place for place, (_, writer) in enumerate(edges) if writer == 0)
        path = edges[: end + 1]
        assert graph.readers[path[0][0]] == "out"
        for (_, writer), (reader, _) in itertools.pairwise(path):
            assert graph.feeds[reader, writer], "the next reader is an input of the writer"
        lengths.add(len(path))
    assert len(lengths) > 2


@EACH_GRAPH
def test_a_circuit_of_any_size_is_live_but_for_the_last_path(graph: Graph) -> None:
    longest = len(graph.blocks)
    n_visited = int(can_be_visited(graph).sum())
    for scores in rankings(graph, 3):
        for n_edges in range(0, n_visited + 1):
            circuit = scores.circuit(n_edges)
            live = int(graph.live(circuit.mask, "interchange").sum())
            assert n_edges - longest < live <= n_edges or n_edges == live == 0


def test_on_gpt2_small_circuits_are_live_at_every_sparsity() -> None:
    (scores,) = rankings(GPT2_SMALL, 1)
    for n_edges in (10, 100, 1_000, 10_000, 30_000):
        live = int(GPT2_SMALL.live(scores.circuit(n_edges).mask, "interchange").sum())
        assert n_edges - len(GPT2_SMALL.blocks) < live <= n_edges


def test_edges_of_the_position_embedding_come_last() -> None:
    graph = GRAPHS["two embeddings"]
    for scores in rankings(graph, 3):
        n_positions = graph.n_edges - int(can_be_visited(graph).sum())
        assert all(writer == 1 for _, writer in edges_of(scores)[-n_positions:])


@EACH_GRAPH
def test_a_path_takes_each_writer_and_each_reader_alike(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `out` any writer, then of that writer any reader; within five standard deviations."""
    monkeypatch.setattr("methods.random.PATHS_AT_ONCE", 500)  # of which the first is looked at
    n = 600
    first, second = torch.zeros(len(graph.writers)), torch.zeros(len(graph.readers))
    for scores in rankings(graph, n):
        (_, writer), (reader, _) = edges_of(scores)[:2]
        first[writer] += 1
        if writer == len(graph.writers) - 1:
            continue
        second[reader] += writer == len(graph.writers) - 2
    candidates = can_be_visited(graph)[-1].nonzero().flatten()
    assert_alike(first[candidates], n)
    inputs = graph.feeds[:, len(graph.writers) - 2].nonzero().flatten()
    assert len(inputs) == 3
    assert_alike(second[inputs], int(first[len(graph.writers) - 2]))


def assert_alike(counts: Tensor, n: int) -> None:
    """Every count is near n / len(counts)."""
    assert int(counts.sum()) == n
    share = 1 / len(counts)
    deviation = math.sqrt(n * share * (1 - share))
    assert ((counts - n * share).abs() < 5 * deviation).all()


def test_draws_differ_and_a_generator_gives_the_same_ones_again() -> None:
    graph = GRAPHS["two embeddings"]
    draws, again, other = (
        torch.stack([scores.values for scores in rankings(graph, 4, seed=seed)])
        for seed in (0, 0, 1)
    )
    assert torch.equal(draws, again)
    assert len(torch.cat([draws, other]).unique(dim=0)) == 8


def test_it_gives_as_many_rankings_as_asked_for_on_a_model() -> None:
    model = toys.gpt2()
    found = Random(draws=7).discover(model, toys.task(), generator=torch.Generator())
    assert len(found) == 7
    assert all(scores.graph == model.graph for scores in found)
    assert model.flops == 0


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="draws=0; expected a number greater than or equal to 1"):
        Random(draws=0)
