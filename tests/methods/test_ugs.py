"""UGS: its distribution, its gradient, and where training goes."""

from dataclasses import asdict

import pytest
import torch

from benchmarks.grid.settings import defining
from edgewise.batches import mean_of_positions
from edgewise.circuit import EdgeScores
from methods.ugs import UGS, UniformMasks, uniform_masks
from tests.methods import toys

MANY = 200_000


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.73, 0.9])
def test_a_masks_mean_is_the_probability_and_it_is_seldom_between(probability: float) -> None:
    kept = torch.tensor([probability], dtype=torch.float64)
    masks = uniform_masks(kept, torch.rand(MANY, 1, dtype=torch.float64))
    width = probability * (1 - probability)
    between = ((masks > 0) & (masks < 1)).double().mean()
    assert float(masks.mean()) == pytest.approx(probability, abs=5e-3)
    assert float(between) == pytest.approx(width, abs=5e-3)
    assert float((masks == 1).double().mean()) == pytest.approx(probability - width / 2, abs=5e-3)


def test_a_probability_gets_the_mean_gradient_of_its_masks_that_are_between() -> None:
    kept = torch.tensor([0.5, 0.5], requires_grad=True)
    noise = torch.tensor([[0.5, 0.0], [0.45, 1.0], [0.0, 0.0]])  # two, and none, are between
    masks = uniform_masks(kept, noise)
    masks.backward(torch.tensor([[3.0, 7.0], [5.0, 7.0], [100.0, 7.0]]))
    assert kept.grad is not None
    assert kept.grad.tolist() == pytest.approx([3 * (3.0 + 5.0) / 2, 0.0])


def test_the_gradient_of_a_mean_loss_is_that_of_its_expectation() -> None:
    """The loss is a product of two masks, whose expectation is p₁p₂, with gradient (p₂, p₁)."""
    kept = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    masks = uniform_masks(kept, torch.rand(MANY, 2, dtype=torch.float64))
    (masks[:, 0] * masks[:, 1]).mean().backward()
    assert kept.grad is not None
    assert kept.grad.tolist() == pytest.approx([0.8, 0.3], abs=0.01)


def test_the_penalty_is_the_expected_edges_and_a_term_for_heads() -> None:
    graph = toys.gpt2().graph
    masks = UniformMasks(UGS(penalty=1e-3), graph, 5, torch.device("cpu"))
    _, penalty = masks.sample(torch.rand(60, graph.n_edges))
    kept = torch.sigmoid(torch.tensor(1.0))
    expected = 1e-3 * graph.n_edges * kept
    n_heads = graph.n_layers * graph.n_heads
    for layer in range(graph.n_layers):
        for head in range(graph.n_heads):
            edges = [
                name
                for name in graph.edge_names(graph.legal)
                if f"a{layer}.h{head}->" in name or f"->a{layer}.h{head}." in name
            ]
            share = torch.tanh(2 * len(edges) * kept / n_heads)
            expected = expected + 2e-4 * share * n_heads / 2
    assert float(penalty.detach()) == pytest.approx(float(expected))


@pytest.mark.parametrize(("penalty", "grows"), [(10.0, False), (1e-9, True)])
def test_a_heavy_penalty_closes_all_edges_and_none_opens_those_that_help(
    penalty: float, grows: bool, unchecked: None
) -> None:
    method = UGS(steps=60, learning_rate=0.1, penalty=penalty, batch_size=2)
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    for name, weight in model.architecture.weights().items():
        if "c_proj" in name:
            weight.zero_()  # so that only tok->out matters
    found = method.discover(model, task, generator=torch.Generator().manual_seed(0))
    assert isinstance(found, EdgeScores)
    logits = found.values
    assert bool(logits[-1, 0] > 1) is grows
    if not grows:
        assert bool((logits[model.graph.legal] < -1).all())


def test_learned_values_start_at_the_means_and_lower_the_loss(unchecked: None) -> None:
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(5))
    start = mean_of_positions(model, task.train)
    real = [
        model.activations(pair.corrupted)[0, : int(pair.lengths)]
        for pair in (task.train[place : place + 1] for place in range(5))
    ]
    torch.testing.assert_close(start, torch.cat(real).mean(0))
    method = UGS(steps=30, ablation_values="learned", values_learning_rate=0.03, batch_size=5)
    training = method.training(model, task, torch.Generator().manual_seed(0))
    values = training.masks.ablated
    assert values is not None
    torch.testing.assert_close(values.detach(), start)
    closed = torch.full((60, *model.graph.legal.shape), 0.2).requires_grad_()
    everything = torch.arange(5).repeat_interleave(12)
    training.gradient(closed, everything)
    before = training.facts()["loss"]
    found = method.complete(training)
    training.gradient(closed, everything)
    assert training.facts()["loss"] < before
    torch.testing.assert_close(found.extra["ablated"], values.detach())


def test_large_gradients_of_learned_values_do_not_scale_those_of_masks_down() -> None:
    method = UGS(ablation_values="learned", batch_size=3)
    training = method.training(
        toys.gpt2(torch.float32), toys.task(), torch.Generator().manual_seed(0)
    )
    training.masks.max_gradient_norm = 1e-3
    training.step(0)
    gradients = [one.grad for one in training.masks.parameters.values() if one.grad is not None]
    of_masks, of_values = (float(gradient.norm()) for gradient in gradients)
    assert of_masks == pytest.approx(1e-3, rel=1e-2) and of_values > 0.01


def test_values_at_their_default_are_the_tasks() -> None:
    training = UGS().training(
        toys.gpt2(torch.float32), toys.task(), torch.Generator().manual_seed(0)
    )
    assert training.masks.ablated is None and training.batches.ablation == "interchange"
    assert defining("ugs", asdict(UGS())).keys().isdisjoint(UGS.added)
