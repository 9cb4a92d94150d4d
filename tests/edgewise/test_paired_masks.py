"""One mask for each prompt: the same as every prompt run alone with its own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.edgewise.conftest import Case
from tests.models import ABLATIONS, TOLERANCE, ablated_by, random_masks, random_soft_masks

TARGETS = {
    "all": None,
    "one": torch.tensor([4, 0, 6]),
    "twice": torch.tensor([[6, 1], [1, 1], [0, 5]]),
}

close = torch.testing.assert_close


def one_by_one(case: Case, masks: Tensor, ablated: Tensor | None, targets: Tensor | None) -> Tensor:
    """Logits of each prompt in a batch of its own, with its own mask."""
    logits: list[Tensor] = []
    for index, mask in enumerate(masks):
        one = slice(index, index + 1)
        theirs = ablated[one] if ablated is not None and ablated.ndim == 4 else ablated
        its_targets = None if targets is None else targets[one]
        logits.append(case.model(case.clean[one], mask, theirs, its_targets))
    return torch.cat(logits)


@pytest.mark.parametrize("alignment", [1, 8])
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_logits_and_gradient_are_those_of_each_prompt_alone(
    case: Case,
    ablation: Any,
    targets: Tensor | None,
    alignment: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgewise.writers.alignment", lambda device: alignment)
    ablated = ablated_by(ablation, case.model, case.corrupted)
    masks = random_soft_masks(case.model.graph, len(case.clean)).requires_grad_()
    logits = case.model(case.clean, masks, ablated, targets, paired=True)
    expected = one_by_one(case, masks, ablated, targets)
    close(logits, expected, **TOLERANCE)
    ours, theirs = (
        torch.autograd.grad(found.square().sum(), masks)[0] for found in (logits, expected)
    )
    close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(bool(own.any()) for own in ours)


@pytest.mark.parametrize("density", [0.1, 0.9])
def test_a_used_buffer_takes_nothing_over(case: Case, density: float) -> None:
    model, ablated = case.model, case.model.activations(case.corrupted)
    buffer = model.buffer(case.clean, ablated, paired=True)
    for seed in range(3):
        masks = random_masks(model.graph, len(case.clean), density=density, seed=seed)
        close(model.run(buffer, masks), one_by_one(case, masks, ablated, None), **TOLERANCE)


def test_recomputed_blocks_give_the_same_gradient(case: Case) -> None:
    ablated = case.model.activations(case.corrupted)
    masks = random_soft_masks(case.model.graph, len(case.clean)).requires_grad_()
    gradients: list[Tensor] = []
    for case.model.recompute in (False, True):
        logits = case.model(case.clean, masks, ablated, paired=True)
        gradients.append(torch.autograd.grad(logits.square().sum(), masks)[0])
    assert torch.equal(*gradients)


def test_another_number_of_masks_than_prompts_is_an_error(case: Case) -> None:
    for masks in (
        random_soft_masks(case.model.graph, 2),
        random_soft_masks(case.model.graph, 1)[0],
    ):
        with pytest.raises(ValueError, match=r"[12] masks for 3 prompts; expected one for each"):
            case.model(case.clean, masks, paired=True)
