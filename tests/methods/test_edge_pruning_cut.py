"""How Edge Pruning makes its masks binary: tensor by tensor, as its published code does."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.graph import Graph
from edgewise.hard_concrete import evaluation_masks, tensor_sizes
from edgewise.transformer import MaskedTransformer
from methods.edge_pruning import EdgePruning
from tests.methods import toys

SPARSITY = EdgePruning(cut="sparsity")
THRESHOLD = EdgePruning(cut="threshold", threshold=0.4)


def finish(log_alpha: Tensor, nodes: Tensor | None, settings: EdgePruning) -> Circuit | EdgeScores:
    """What a training that ended with these log-alphas gives."""
    graph = toys.gpt2().graph
    log_alphas = {"log_alpha": on_edges(graph, log_alpha)}
    if nodes is not None:
        log_alphas["node_log_alpha"] = nodes
    return settings.finish(log_alphas, graph)


def cut(log_alpha: Tensor, nodes: Tensor, settings: EdgePruning) -> Circuit:
    """Its circuit."""
    circuit = finish(log_alpha, nodes, settings)
    assert isinstance(circuit, Circuit)
    return circuit


def expected_zeros(log_alpha: Tensor) -> int:
    x = log_alpha.double().numpy()
    return round(float((1 / (1 + np.exp(x - 2 / 3 * np.log(0.1 / 1.1)))).sum()))


def on_edges(graph: Graph, values: Tensor) -> Tensor:
    return torch.zeros(graph.legal.shape, dtype=values.dtype).masked_scatter(graph.legal, values)


def test_evaluation_masks_are_zero_as_often_as_expected_and_soft_otherwise() -> None:
    """In each tensor apart: the first is nearly open, the second nearly closed."""
    tensors = [torch.randn(300) * 3 + 2, torch.randn(200) * 3 - 2]
    expected = []
    for log_alpha in tensors:
        x, n_zero = log_alpha.double().numpy(), expected_zeros(log_alpha)
        assert 10 < n_zero < 190
        soft = 1 / (1 + np.exp(-0.8 * x / (2 / 3)))
        soft[np.argsort(x)[:n_zero]] = 0
        expected.append(soft)
    masks = evaluation_masks(torch.cat(tensors), [300, 200])
    np.testing.assert_allclose(masks.numpy(), np.concatenate(expected), atol=1e-6)


def test_a_mask_alone_in_its_tensor_closes_where_zero_is_more_likely_than_not() -> None:
    """P(z = 0) is one half at 2/3 · log(0.1 / 1.1), about −1.6; two together share one zero."""
    assert (evaluation_masks(torch.tensor([-1.59, -1.61]), [1, 1]) == 0).tolist() == [False, True]
    both = torch.tensor([-1.61, -1.62])
    assert (evaluation_masks(both, [1, 1]) == 0).tolist() == [True, True]
    assert (evaluation_masks(both, [2]) == 0).tolist() == [False, True]


@pytest.mark.parametrize(
    "model",
    [
        toys.gpt2(),
        toys.gpt2(embeddings="joint"),
        toys.llama(),
        toys.llama(kv_heads="key-value"),
    ],
    ids=["gpt2", "joint embeddings", "llama", "llama with key-value heads"],
)
def test_the_tensors_are_the_q_k_v_of_a_layer_its_mlp_and_the_output(
    model: MaskedTransformer,
) -> None:
    """As the names of the readers and of the writers tell."""
    graph = model.graph

    def tensor(name: str) -> str:
        layer, *head_and_reader = name.split(".")
        return layer + "".join(head_and_reader[1:]) if head_and_reader else name

    readers = [graph.readers[reader] for reader in graph.legal.nonzero()[:, 0].tolist()]
    for names, sizes in zip((readers, graph.writers), tensor_sizes(graph), strict=True):
        runs = [(kind, len(list(run))) for kind, run in itertools.groupby(map(tensor, names))]
        assert [size for _, size in runs] == sizes
        assert len({kind for kind, _ in runs}) == len(runs)


def test_it_keeps_the_largest_edges_and_nodes_as_many_as_their_masks_sum_to() -> None:
    graph = toys.gpt2().graph
    log_alpha, nodes = torch.randn(graph.n_edges) * 4, torch.randn(len(graph.writers)) * 4
    circuit = cut(log_alpha, nodes, SPARSITY)

    def largest(values: Tensor, sizes: list[int]) -> Tensor:
        soft = evaluation_masks(values, sizes)
        n = round(float(soft.sum()))
        assert 0 < n < len(values)
        return soft >= soft.sort(descending=True).values[n - 1]

    edges, writers = map(largest, (log_alpha, nodes), tensor_sizes(graph))
    assert torch.equal(circuit.mask, on_edges(graph, edges) & writers)
    assert torch.equal(circuit.extra["log_alpha"][graph.legal], log_alpha)
    assert torch.equal(circuit.extra["node_log_alpha"], nodes)


def test_with_a_threshold_it_keeps_the_masks_above_it() -> None:
    graph = toys.gpt2().graph
    log_alpha, nodes = torch.randn(graph.n_edges) * 2, torch.randn(len(graph.writers)) * 2 + 1
    circuit = cut(log_alpha, nodes, THRESHOLD)
    edges, writers = (
        evaluation_masks(values, sizes) > 0.4
        for values, sizes in zip((log_alpha, nodes), tensor_sizes(graph), strict=True)
    )
    assert torch.equal(circuit.mask, on_edges(graph, edges) & writers)
    assert 0 < circuit.n_edges < int(edges.sum())


def test_each_tensor_of_edges_rounds_its_own_number_of_zeros() -> None:
    """At −4.35 a mask is zero with 94 % and 0.0054 when soft, just above the paper's threshold.

    The four edges of a q in the first layer close; the ten of one in the second leave one.
    """
    graph = toys.gpt2().graph
    log_alpha, nodes = torch.full((graph.n_edges,), -4.35), torch.full((len(graph.writers),), 10.0)
    circuit = cut(log_alpha, nodes, dataclasses.replace(THRESHOLD, threshold=0.005))
    sizes, _ = tensor_sizes(graph)
    share = 1 / (1 + math.exp(-4.35 - 2 / 3 * math.log(0.1 / 1.1)))
    assert circuit.n_edges == sum(size - round(size * share) for size in sizes)
    assert not circuit.mask[:7].any()
    assert circuit.n_edges != graph.n_edges - expected_zeros(log_alpha)


def test_each_node_alone_in_its_tensor_rounds_its_own_zero() -> None:
    """`tok`, `pos` and each MLP close below −1.6, the heads of a layer as many as are expected."""
    graph = toys.gpt2().graph
    nodes = torch.full((len(graph.writers),), -2.0)
    settings = dataclasses.replace(THRESHOLD, threshold=0.005)
    circuit = cut(torch.full((graph.n_edges,), 10.0), nodes, settings)
    writers = circuit.mask.any(0).nonzero().flatten().tolist()
    assert [graph.writers[writer] for writer in writers] == ["a0.h1", "a1.h1"]


@pytest.mark.parametrize("node_masks", [True, False])
def test_it_ranks_edges_by_their_masks_times_their_writers(node_masks: bool) -> None:
    graph = toys.gpt2().graph
    log_alpha, nodes = torch.randn(graph.n_edges) * 4, torch.randn(len(graph.writers)) * 4
    settings = EdgePruning(cut="ranking", node_masks=node_masks)
    scores = finish(log_alpha, nodes if node_masks else None, settings)
    assert isinstance(scores, EdgeScores)
    soft = 1 / (1 + torch.exp(-1.2 * on_edges(graph, log_alpha).double()))
    if node_masks:
        soft = soft / (1 + torch.exp(-1.2 * nodes.double()))
    expected = soft[graph.legal].sort(descending=True).values
    ranked = soft.flatten()[scores.ranking()]
    torch.testing.assert_close(ranked, expected)
    assert torch.equal(scores.extra["log_alpha"][graph.legal], log_alpha)
    assert ("node_log_alpha" in scores.extra) == node_masks


def test_a_discovery_that_cuts_nothing_gives_a_ranking() -> None:
    settings = EdgePruning(
        cut="ranking", steps=3, warmup_steps=1, target_warmup_steps=2, batch_size=2
    )
    found = settings.discover(
        toys.gpt2(torch.float32), toys.task(), generator=torch.Generator().manual_seed(0)
    )
    assert isinstance(found, EdgeScores)
    assert found.circuit(5).n_edges == 5
