"""Several samples of the masks in a step, each with its own part of the batch."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.hard_concrete import sampled_masks
from edgewise.mask_training import MaskTraining
from edgewise.metrics import kl_divergence
from methods.edge_pruning import EdgePruning
from tests.methods import toys

N_PROMPTS = 7
SETTINGS = EdgePruning(batch_size=N_PROMPTS, node_loss=True, noise_samples=3)
PARTS = {1: [0] * 7, 3: [0, 0, 0, 1, 1, 2, 2], 7: list(range(7))}
"""Which sample each prompt runs with."""


def training(settings: EdgePruning) -> MaskTraining:
    model, task = toys.gpt2(torch.float32), toys.task(toys.random_pairs(N_PROMPTS))
    return settings.training(model, task, torch.Generator().manual_seed(0))


def rates(training: MaskTraining) -> Tensor:
    """Gradients of the log-alphas and multipliers, read off Adam's first moments."""
    state, _ = training.state(1)
    return 10 * torch.cat([state["log_alpha.exp_avg"], state["multipliers.exp_avg"]])


@pytest.mark.parametrize("noise_samples", PARTS)
def test_a_step_is_that_of_a_loss_written_prompt_by_prompt(
    noise_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the masks are soft here; the penalty is of the mean sparsity over the samples."""
    monkeypatch.setattr("edgewise.constrained_masks.ConstrainedMasks.max_gradient_norm", 1e9)
    settings = dataclasses.replace(SETTINGS, noise_samples=noise_samples)
    run = training(settings)
    model, batches = run._model, run.batches
    n_edges = model.graph.n_edges
    start, _ = run.state(1000)
    log_alpha = torch.linspace(-2, 2, len(start["log_alpha"]))
    multipliers = torch.tensor([0.3, 0.4, 0.5, 0.6])
    run.restore({**start, "log_alpha": log_alpha, "multipliers": multipliers}, {"step": 1000})
    generator = torch.Generator().manual_seed(0)
    torch.randn(len(log_alpha), generator=generator)
    order = torch.randperm(N_PROMPTS, generator=generator)
    noise = torch.rand(noise_samples, len(log_alpha), generator=generator)
    run.step(1000)

    log_alpha.requires_grad_()
    multipliers.requires_grad_()
    sampled = [sampled_masks(log_alpha, of_sample) for of_sample in noise]
    loss = log_alpha.new_zeros(())
    for place, prompt in enumerate(order):
        edges, nodes = sampled[PARTS[noise_samples][place]].split(
            [n_edges, len(log_alpha) - n_edges]
        )
        mask = torch.zeros(model.graph.legal.shape)
        mask[model.graph.legal] = edges
        one = batches.batch(prompt[None])
        logits = model(one.tokens, mask * nodes, one.ablated, one.targets, one.prefix)
        loss = loss + kl_divergence(logits, one.full_logits, one.pairs).sum() / N_PROMPTS
    mean = torch.stack(sampled).mean(0)
    progress = 1000 / settings.target_warmup_steps
    targets = torch.tensor([settings.target_sparsity, settings.node_target]) * progress
    gap = 1 - torch.stack([mean[:n_edges].mean(), mean[n_edges:].mean()]) - targets
    total = loss + (multipliers * torch.cat([gap, gap.square()])).sum()
    expected = torch.cat(torch.autograd.grad(total, [log_alpha, multipliers]))
    expected[-4:] *= -1  # it ascends
    torch.testing.assert_close(rates(run), expected, rtol=1e-3, atol=1e-5)


def test_there_is_at_most_one_sample_for_each_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    run = training(dataclasses.replace(SETTINGS, batch_size=64, noise_samples=64))
    seen: list[Any] = []
    forward = run._model.__class__.__call__

    def spy(model: Any, tokens: Tensor, mask: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(mask)
        return forward(model, tokens, mask, *args, **options)

    monkeypatch.setattr(run._model.__class__, "__call__", spy)
    run.masks.parameters["log_alpha"].data.zero_()
    run.step(0)
    (masks,) = seen
    assert len(masks) == N_PROMPTS
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == N_PROMPTS
