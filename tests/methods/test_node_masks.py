"""Methods with one mask per writer: node pruning and subnetwork probing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from edgewise.metrics import kl_divergence
from methods.node_pruning import NodePruning
from methods.subnetwork_probing import SubnetworkProbing
from tests.methods import toys

METHODS = [NodePruning(batch_size=5), SubnetworkProbing()]
NODE, PROBING = METHODS


@pytest.mark.parametrize("method", METHODS, ids=["node pruning", "subnetwork probing"])
def test_all_readers_of_a_writer_have_its_mask(method: Any) -> None:
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    training = method.training(model, task, torch.Generator().manual_seed(0))
    training.masks.log_alpha.data.copy_(torch.linspace(-2, 2, len(model.graph.writers)))
    noise = training.masks.noise(torch.Generator().manual_seed(1))
    (mask,), _ = training.masks.sample(noise)
    legal = model.graph.legal
    assert torch.equal(mask, mask[-1] * legal)
    assert len(mask[-1].unique()) > 4


def test_the_masks_of_subnetwork_probing_begin_at_nine_tenths_and_are_penalised() -> None:
    """As ACDC's authors have it: (0.9 + 0.1) / 1.2 = σ(1.609); λ σ(1.609 − ⅔ log(0.1 / 1.1))."""
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    method = SubnetworkProbing(penalty=3.0)
    training = method.training(model, task, torch.Generator().manual_seed(0))
    start = training.masks.parameters["log_alpha"].detach()
    assert start.sigmoid().tolist() == pytest.approx([1 / 1.2] * len(start), abs=1e-4)
    _, penalty = training.masks.sample(training.masks.noise(torch.Generator()))
    assert penalty is not None
    expected = 3 / (1 + torch.exp(torch.tensor(-1.6094 - 2 / 3 * 2.397895)))
    assert float(penalty.detach()) == pytest.approx(float(expected), rel=1e-5)


def log_alphas(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return 4 * torch.randn(len(model.graph.writers), generator=generator)


def test_the_ranking_cuts_at_every_threshold_the_edges_among_the_writers_above_it() -> None:
    model = toys.gpt2(torch.float32)
    trained = {"node_log_alpha": log_alphas(model)}
    ranking = NODE.finish(trained, model.graph)
    probed = PROBING.finish(trained, model.graph)
    assert isinstance(ranking, EdgeScores)
    assert isinstance(probed, EdgeScores)
    assert torch.equal(ranking.ranking(), probed.ranking())
    for threshold in trained["node_log_alpha"]:
        among = model.graph.between(trained["node_log_alpha"] >= threshold)
        assert torch.equal(ranking.circuit(int(among.sum())).mask, among)


def test_circuits_are_cut_where_the_methods_say() -> None:
    graph = toys.gpt2(torch.float32).graph
    trained = {"node_log_alpha": log_alphas(toys.gpt2(torch.float32))}
    above = SubnetworkProbing(cut="threshold").finish(trained, graph)
    largest = NodePruning(cut="sparsity").finish(trained, graph)
    assert isinstance(above, Circuit)
    assert isinstance(largest, Circuit)
    assert torch.equal(above.mask, graph.between(trained["node_log_alpha"] > 0))
    names = graph.edge_names(largest.mask)
    kept = {name.split("->")[0] for name in names}
    read = {name.split("->")[1].rsplit(".", 1)[0] for name in names} - {"out"}
    assert read <= kept | {"out"}
    assert 0 < len(kept) < len(graph.writers)


@pytest.mark.slow
def test_the_writers_that_matter_are_kept(unchecked: None) -> None:
    """All heads and MLPs write zero, so only `tok` matters."""
    model = toys.gpt2(torch.float32)
    task = toys.task(toys.random_pairs(5), training_loss=lambda *x: 1000 * kl_divergence(*x))
    for name, weight in model.architecture.weights().items():
        if "c_proj" in name:
            weight.zero_()
    pruned = NodePruning(
        steps=200, warmup_steps=10, target_warmup_steps=140, batch_size=5, target_sparsity=0.8
    )
    for method in (pruned, SubnetworkProbing(steps=200, learning_rate=0.1, penalty=10.0)):
        found = method.discover(model, task, generator=torch.Generator().manual_seed(0))
        order = found.extra["node_log_alpha"].argsort(descending=True)
        assert int(order[0]) == 0
        best, second = found.extra["node_log_alpha"][order[:2]]
        assert float(best) > float(second) + 0.1
