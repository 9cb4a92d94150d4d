"""Matryoshka: the soft choice of the best edges, and the ranking that training arrives at."""

from typing import Literal

import pytest
import torch

from edgewise.circuit import EdgeScores
from methods.matryoshka import Matryoshka, MatryoshkaMasks, soft_top_k
from tests.methods import toys


@pytest.mark.parametrize("size", [0.5, 1.0, 4.0, 9.5])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
def test_the_masks_add_up_to_the_size_and_are_ordered_as_the_scores(
    size: float, temperature: float
) -> None:
    scores = torch.randn(10, dtype=torch.float64)
    masks = soft_top_k(scores, torch.tensor(size, dtype=torch.float64), temperature)
    assert float(masks.sum()) == pytest.approx(size, abs=1e-9)
    assert bool((masks[scores.argsort()].diff() >= 0).all())


def test_at_a_low_temperature_the_masks_are_the_best_edges() -> None:
    scores = torch.tensor([0.3, -1.0, 2.0, 0.9], dtype=torch.float64)
    masks = soft_top_k(scores, torch.tensor(2.0, dtype=torch.float64), 1e-3)
    torch.testing.assert_close(masks, torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("temperature", [0.2, 0.5, 2.0])
def test_the_gradient_is_that_of_finite_differences(temperature: float) -> None:
    scores = torch.randn(10, dtype=torch.float64, requires_grad=True)
    size = torch.tensor(4.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda values: soft_top_k(values, size, temperature), scores)


def test_at_equal_scores_the_gradient_is_centred() -> None:
    """There, every mask is k/n: the gradient is (h/T)(G − mean G) with h = k/n (1 − k/n)."""
    scores = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    given = torch.randn(10, dtype=torch.float64)
    size = torch.tensor(3.0, dtype=torch.float64)
    soft_top_k(scores, size, 0.5).backward(given)
    torch.testing.assert_close(scores.grad, 0.3 * 0.7 / 0.5 * (given - given.mean()))


@pytest.mark.parametrize("sizes", ["uniform", "logarithmic"])
def test_sizes_are_drawn_from_one_edge_to_all(sizes: Literal["uniform", "logarithmic"]) -> None:
    graph = toys.gpt2().graph
    masks = MatryoshkaMasks(Matryoshka(sizes=sizes), graph, torch.device("cpu"))
    with torch.no_grad():
        drawn = [float(masks.sample(torch.tensor(noise))[0].sum()) for noise in (0.0, 0.5, 1.0)]
    middle = (1 + graph.n_edges) / 2 if sizes == "uniform" else graph.n_edges**0.5
    assert drawn == pytest.approx([1, middle, graph.n_edges], rel=1e-3)


def test_the_one_edge_that_matters_is_ranked_first(unchecked: None) -> None:
    """All heads and MLPs write zero, so only `tok->out` does."""
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    for name, weight in model.architecture.weights().items():
        if "c_proj" in name:
            weight.zero_()
    found = Matryoshka(steps=100, objective="training").discover(
        model, task, generator=torch.Generator().manual_seed(0)
    )
    assert isinstance(found, EdgeScores)
    n_writers = len(model.graph.writers)
    assert int(found.ranking()[0]) == (len(model.graph.readers) - 1) * n_writers
    assert float(found.values[-1, 0]) > 0.5 > -0.5 > float(found.values[-1, 1:].max())


def test_the_objective_is_the_tasks_loss_of_that_name() -> None:
    task = toys.task()
    assert Matryoshka().loss(task) is task.attribution_loss
    assert Matryoshka(objective="training").loss(task) is task.training_loss
