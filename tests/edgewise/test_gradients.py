"""Gradients of the mask: against finite differences, and against the slow twin's."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.batches import Batches
from edgewise.transformer import MaskedTransformer
from tests.edgewise.conftest import Case
from tests.models import (
    ABLATIONS,
    TOLERANCE,
    ablated_by,
    gpt2,
    llama,
    random_pairs,
    random_soft_masks,
    random_tokens,
)
from tests.twin import twin_logits

SMALL: dict[str, Any] = dict(n_embd=6, n_head=2, vocab_size=9)
TARGETS = {"all": None, "one": torch.tensor([3, 1]), "twice": torch.tensor([[3, 3], [0, 2]])}


def weighted(logits: Tensor) -> Tensor:
    """A scalar that depends on every logit, and not linearly."""
    weights = torch.linspace(-1, 2, logits.numel(), dtype=logits.dtype).view(logits.shape)
    return (weights * logits.tanh()).sum()


def gradient(model: MaskedTransformer, tokens: Tensor, mask: Tensor, *given: Any) -> Tensor:
    mask = mask.clone().requires_grad_()
    return torch.autograd.grad(weighted(model(tokens, mask, *given)), mask)[0]


def assert_gradient(
    logits: Callable[[Tensor], Tensor], mask: Tensor, *, step: float = 1e-6, tolerance: float = 1e-6
) -> None:
    """Entry by entry the central difference; all moved masks run together.

    torch's own check, which runs them one by one, looks along one random direction besides.
    """
    steps = step * torch.eye(mask.numel(), dtype=mask.dtype).view(-1, *mask.shape)
    ahead, behind = (
        torch.vmap(weighted)(logits(masks).unflatten(0, (len(steps), -1)))
        for masks in ((mask + steps).flatten(0, -3), (mask - steps).flatten(0, -3))
    )
    differences = ((ahead - behind) / (2 * step)).view_as(mask)
    (found,) = torch.autograd.grad(weighted(logits(mask)), mask)
    limits: dict[str, Any] = dict(atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found, differences, **limits)
    assert torch.autograd.gradcheck(
        lambda mask: weighted(logits(mask)), mask, eps=step, fast_mode=True, **limits
    )


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("n_masks", [1, 2])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_gradient_is_that_of_finite_differences(
    ablation: Any, n_masks: int, targets: Tensor | None
) -> None:
    model = MaskedTransformer(gpt2(**SMALL).double())
    clean, corrupted = (random_tokens(2, 4, seed=seed) % 9 for seed in (1, 2))
    ablated = ablated_by(ablation, model, corrupted)
    masks = random_soft_masks(model.graph, n_masks).double()
    mask = (masks if n_masks > 1 else masks[0]).requires_grad_()
    assert_gradient(lambda mask: model(clean, mask, ablated, targets), mask)


@pytest.mark.parametrize("kv_heads", ["query", "key-value"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_grouped_models_gradient_is_that_of_finite_differences(
    ablation: Any, kv_heads: Any
) -> None:
    hf = llama(hidden_size=8, head_dim=2, intermediate_size=8, attention_bias=True)
    model = MaskedTransformer(hf.double(), kv_heads=kv_heads)
    clean, corrupted = random_tokens(2, 4, seed=1), random_tokens(2, 4, seed=2)
    ablated = ablated_by(ablation, model, corrupted)
    mask = (0.4 + random_soft_masks(model.graph, 1)[0].double()).requires_grad_()
    # Its norms are computed in float32 whatever the type of the weights, hence the wide steps.
    assert_gradient(lambda mask: model(clean, mask, ablated), mask, step=2e-3, tolerance=1e-3)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_gradient_is_the_slow_twins(case: Case, ablation: Any) -> None:
    ablated = ablated_by(ablation, case.model, case.corrupted)
    mask = random_soft_masks(case.model.graph, 1)[0].requires_grad_()
    loss = weighted(twin_logits(case.hf, case.model, case.clean, mask, ablated))
    expected = torch.autograd.grad(loss, mask)[0]
    close = torch.testing.assert_close
    close(gradient(case.model, case.clean, mask, ablated), expected, rtol=1e-4, atol=1e-4)
    assert bool((expected[case.model.graph.legal] != 0).any())
    assert not bool(expected[~case.model.graph.legal].any())


def test_entries_that_are_no_edges_have_no_gradient(case: Case) -> None:
    ablated = case.model.activations(case.corrupted)
    masks = random_soft_masks(case.model.graph, 2)
    assert not bool(
        gradient(case.model, case.clean, masks, ablated)[:, ~case.model.graph.legal].any()
    )


def test_the_gradient_of_a_batch_is_the_sum_over_its_prompts(case: Case) -> None:
    ablated = case.model.activations(case.corrupted)
    mask = random_soft_masks(case.model.graph, 1)[0].requires_grad_()

    def squares(chosen: slice) -> Tensor:
        loss = case.model(case.clean[chosen], mask, ablated[chosen]).square().sum()
        return torch.autograd.grad(loss, mask)[0]

    alone = sum(squares(slice(one, one + 1)) for one in range(len(case.clean)))
    torch.testing.assert_close(squares(slice(None)), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("budget_bytes", [0, 2**30])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_pads_do_not_touch_the_gradient(case: Case, ablation: Any, budget_bytes: int) -> None:
    pairs = random_pairs([4, 7, 5])
    mask = random_soft_masks(case.model.graph, 1)[0].requires_grad_()
    batches = Batches(case.model, pairs, ablation, budget_bytes=budget_bytes)

    def squares(index: list[int]) -> Tensor:
        batch = batches.batch(torch.tensor(index))
        logits = case.model(batch.pairs.clean, mask, batch.ablated, batch.pairs.targets)
        return torch.autograd.grad(logits.square().sum(), mask)[0]

    alone = squares([0]) + squares([1]) + squares([2])
    torch.testing.assert_close(squares([0, 1, 2]), alone, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_a_batch_of_masks_is_that_of_each(case: Case) -> None:
    ablated = case.model.activations(case.corrupted)
    masks = random_soft_masks(case.model.graph, 3).requires_grad_()
    loss = case.model(case.clean, masks, ablated).square().sum((1, 2, 3))
    together = torch.autograd.grad(loss @ torch.tensor([1.0, 2.0, 3.0]), masks)[0]
    for factor, mask, expected in zip((1, 2, 3), masks.detach(), together, strict=True):
        mask.requires_grad_()
        loss = factor * case.model(case.clean, mask, ablated).square().sum()
        found = torch.autograd.grad(loss, mask)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_second_backward_pass_gives_the_same_gradient(case: Case) -> None:
    mask = random_soft_masks(case.model.graph, 1)[0].requires_grad_()
    loss = weighted(case.model(case.clean, mask, case.model.activations(case.corrupted)))
    first = torch.autograd.grad(loss, mask, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, mask)[0], first)


def test_gradients_flow_on_to_what_the_mask_was_made_of(case: Case) -> None:
    graph = case.model.graph
    edges = random_soft_masks(graph, 1)[0].requires_grad_()
    nodes = torch.rand(len(graph.writers), requires_grad=True)
    loss = weighted(case.model(case.clean, edges * nodes[None, :]))
    by_edge, by_node = torch.autograd.grad(loss, (edges, nodes))
    of_mask = gradient(case.model, case.clean, (edges * nodes).detach())
    torch.testing.assert_close(by_edge, of_mask * nodes, **TOLERANCE)
    torch.testing.assert_close(by_node, (of_mask * edges).sum(0), **TOLERANCE)


def test_the_activations_take_no_gradient(case: Case) -> None:
    assert not case.model.activations(case.clean).requires_grad
    assert not case.model(case.clean, random_soft_masks(case.model.graph, 1)).requires_grad


def test_recomputed_blocks_give_the_same_gradient(case: Case) -> None:
    model, mask = case.model, random_soft_masks(case.model.graph, 1)[0]
    given = case.clean, mask, model.activations(case.corrupted)
    expected = gradient(model, *given)
    model.recompute = True
    torch.testing.assert_close(gradient(model, *given), expected, rtol=0, atol=0)


@pytest.mark.parametrize("backward", [True, False])
def test_a_step_leaves_nothing_behind(case: Case, backward: bool) -> None:
    """Without waiting for the garbage collector, which knows nothing of a buffer's size."""
    mask = random_soft_masks(case.model.graph, 1)[0].requires_grad_()
    buffer = case.model.buffer(case.clean, case.model.activations(case.corrupted))
    loss = weighted(case.model.run(buffer, mask))
    if backward:
        loss.backward()
    memory = weakref.ref(buffer)
    gc.disable()
    try:
        del buffer, loss
        assert memory() is None
    finally:
        gc.enable()


def test_a_gradient_of_the_gradient_is_an_error(case: Case) -> None:
    mask = random_soft_masks(case.model.graph, 1)[0].requires_grad_()
    loss = weighted(case.model(case.clean, mask))
    first = torch.autograd.grad(loss, mask, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("ablation", ["interchange", "mean"])
def test_ablated_values_get_the_gradient_of_the_slow_twins(ablation: Any, recompute: bool) -> None:
    hf = gpt2(**SMALL).double()
    model = MaskedTransformer(hf)
    model.recompute = recompute
    clean, corrupted = (random_tokens(2, 4, seed=seed) % 9 for seed in (1, 2))
    values = ablated_by(ablation, model, corrupted)
    assert values is not None
    mask = random_soft_masks(model.graph, 1)[0].double().requires_grad_()
    values = values.clone().requires_grad_()
    slow, fast = twin_logits(hf, model, clean, mask, values), model(clean, mask, values)
    expected, found = (torch.autograd.grad(weighted(one), [mask, values]) for one in (slow, fast))
    torch.testing.assert_close(found, expected)
    assert bool((expected[1].abs().amax((-3, -1)) > 0).all()), "every writer's values matter"


def test_one_vector_for_each_writer_gets_its_gradient_from_masks_of_each_prompt() -> None:
    hf = gpt2(**SMALL).double()
    model = MaskedTransformer(hf)
    clean, targets = random_tokens(2, 4, seed=1) % 9, torch.tensor([[3], [1]])
    vectors = torch.randn(len(model.graph.writers), 6, dtype=torch.float64).requires_grad_()
    masks = random_soft_masks(model.graph, 2).double().requires_grad_()
    values, pairs = vectors.expand(4, -1, -1), zip(clean, masks, strict=True)
    slow = torch.cat([twin_logits(hf, model, one[None], mask, values) for one, mask in pairs])
    at_targets = slow.take_along_dim(targets[..., None], 1)
    expected = torch.autograd.grad(weighted(at_targets), [masks, vectors])
    logits = model(clean, masks, values, targets, paired=True)
    torch.testing.assert_close(torch.autograd.grad(weighted(logits), [masks, vectors]), expected)


def test_ablated_values_get_no_gradient_from_masks_without_one() -> None:
    model = MaskedTransformer(gpt2(**SMALL).double())
    values = torch.zeros(len(model.graph.writers), 6, dtype=torch.float64).requires_grad_()
    with pytest.raises(ValueError, match="masks without a gradient; expected one"):
        model(random_tokens(1, 4) % 9, model.graph.legal, values.expand(4, -1, -1))
