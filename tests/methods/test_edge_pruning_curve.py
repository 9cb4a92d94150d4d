"""Edge Pruning curve: circuits are noted on the way and make one ranking."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.circuit import Circuit, EdgeScores
from methods.edge_pruning import EdgePruning
from methods.edge_pruning_curve import EdgePruningCurve
from tests.methods import toys

SCHEDULE: dict[str, Any] = {
    "steps": 120,
    "warmup_steps": 10,
    "target_warmup_steps": 100,
    "batch_size": 5,
}
CURVE = EdgePruningCurve(**SCHEDULE, circuits=12, target_sparsity=1.1)


def trained_until(step: int) -> Tensor:
    """The circuit that Edge Pruning's masks give after these steps of the same training."""
    method = EdgePruning(**SCHEDULE, target_sparsity=1.1)
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    training = method.training(model, task, torch.Generator().manual_seed(0))
    for number in range(step):
        training.step(number)
    found = method.finish(training.masks.trained(), model.graph)
    assert isinstance(found, Circuit)
    return found.mask


@pytest.mark.slow
def test_an_edge_counts_once_for_each_circuit_on_the_way(unchecked: None) -> None:
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    found = CURVE.discover(model, task, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([trained_until(step) for step in range(10, 121, 10)]).sum(0)
    assert torch.equal(found.extra["circuits"], expected.float())
    assert len(expected[model.graph.legal].unique()) > 3
    assert isinstance(found, EdgeScores)
    n_last = int((expected == expected.max()).sum())
    assert torch.equal(found.circuit(n_last).mask, expected == expected.max())


def test_ties_are_broken_by_the_last_masks() -> None:
    graph = toys.gpt2(torch.float32).graph
    log_alpha = torch.randn(graph.legal.shape)
    trained = {
        "log_alpha": log_alpha,
        "node_log_alpha": torch.zeros(len(graph.writers)),
        "circuits": torch.full(graph.legal.shape, 9999.0),
    }
    ranking = CURVE.finish(trained, graph).ranking()
    in_order = log_alpha.flatten()[ranking]
    assert bool((in_order.diff() <= 0).all())
