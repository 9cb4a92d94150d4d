"""One pass of a forking prompt gives the same results as a pass for each continuation alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgewise.batches import Batches, mean_of_positions
from edgewise.circuit import Circuit
from edgewise.evaluate import evaluate
from edgewise.graph import Ablation
from edgewise.objective import Objective
from edgewise.prefix import Prefix
from edgewise.prompts import PromptPairs
from edgewise.task import Task
from edgewise.transformer import MaskedTransformer
from methods.acdc import ACDC
from methods.eap import EAP
from methods.edge_pruning import EdgePruning
from tasks.shared.years import YearsByDigit
from tests.edgewise.conftest import Case
from tests.edgewise.test_flops import counted_by_torch
from tests.families import FAMILIES, ORDINARY
from tests.methods import toys
from tests.models import (
    MODELS,
    TOLERANCE,
    VOCAB,
    circuits_of,
    random_masks,
    random_soft_masks,
    random_tokens,
)

BUILDS = {name: FAMILIES[name] for name in ORDINARY}
BUILDS |= {name: MODELS[name] for name in ("gpt2", "llama", "llama with dynamic rope", "qwen2")}
YEARS = YearsByDigit(torch.arange(30, 40))
ABLATIONS: list[Ablation] = ["interchange", "zero"]

close = torch.testing.assert_close


def forked(forks: list[int], continuations: int = 3, *, start: int = 0) -> PromptPairs:
    """Prompts that begin alike, their continuations, then noise; scored at ends and continuations.

    With ten continuations, prompts and answers are those of a year's digits.
    """
    ends, width = torch.tensor(forks), max(forks) + continuations
    clean, corrupted = (random_tokens(len(forks), width, seed=seed) for seed in (1, 2))
    clean[:, :start] = corrupted[:, :start] = random_tokens(1, start, seed=3)
    places = ends[:, None] + torch.arange(continuations)
    if continuations == len(YEARS.tokens):
        for tokens in (clean, corrupted):
            tokens.scatter_(1, places, YEARS.tokens.expand(len(forks), -1))
    first, second = torch.randint(30, VOCAB, (2, len(forks), 1))
    return PromptPairs(
        clean=clean,
        corrupted=corrupted,
        lengths=ends + continuations,
        targets=torch.cat([ends[:, None] - 1, places], 1),
        answers=torch.cat([first, second.expand(-1, continuations)], 1),
        forks=ends,
    )


def one_by_one(
    model: MaskedTransformer, pairs: PromptPairs, masks: Tensor, ablation: Ablation = "interchange"
) -> Tensor:
    """Logits at the targets, from masked passes of a prompt with one continuation each."""
    assert pairs.forks is not None
    found: list[Tensor] = []
    for prompt, fork in enumerate(pairs.forks.tolist()):
        clean, corrupted = (
            torch.stack(
                [
                    torch.cat([tokens[prompt, :fork], tokens[prompt, place, None]])
                    for place in pairs.targets[prompt, 1:].tolist()
                ]
            )
            for tokens in (pairs.clean, pairs.corrupted)
        )
        ablated = model.activations(corrupted) if ablation == "interchange" else None
        logits = model(clean, masks, ablated)
        found.append(torch.cat([logits[:, :1, -2], logits[:, :, -1]], 1))
    return torch.stack(found, 1)


def year_task(ablation: Ablation = "interchange") -> Task:
    pairs = forked([4, 6, 3, 5], len(YEARS.tokens))
    return Task(
        name="years",
        version=1,
        train=pairs,
        validation=pairs,
        test=pairs,
        training_loss=YEARS.kl,
        attribution_loss=YEARS.negative_probability_difference,
        metrics=YEARS.metrics(),
        primary="year_kl",
        ablation=ablation,
    )


def full_logits(model: MaskedTransformer, pairs: PromptPairs) -> Tensor:
    return one_by_one(model, pairs, torch.ones(1, *model.graph.legal.shape).to(model.dtype))[0]


@pytest.mark.parametrize("name", BUILDS)
def test_in_every_model_continuations_do_not_see_each_other(name: str) -> None:
    model, pairs = MaskedTransformer(BUILDS[name]()), forked([4, 2, 3])
    masks = torch.cat([torch.ones(1, *model.graph.legal.shape), random_soft_masks(model.graph, 1)])
    forks = Prefix().before(pairs.forks)
    full = model(pairs.clean, targets=pairs.targets, prefix=forks)
    for ablation in ABLATIONS:
        ablated = model.activations(pairs.corrupted, forks) if ablation == "interchange" else None
        logits = model(pairs.clean, masks, ablated, pairs.targets, forks)
        close(logits, one_by_one(model, pairs, masks, ablation), **TOLERANCE)
        close(full, logits[0], **TOLERANCE)


@pytest.mark.parametrize("recompute", [False, True])
def test_after_a_shared_start_logits_and_gradients_are_those_of_continuations(
    case: Case, recompute: bool
) -> None:
    model, pairs = case.model, forked([11, 9, 10], start=8)
    model.recompute = recompute
    masks = random_soft_masks(model.graph, 2).requires_grad_()
    expected = one_by_one(model, pairs, masks)
    (gradient,) = torch.autograd.grad(expected.square().sum(), masks)
    for budget_bytes in (0, 2**30):
        batches = Batches(model, pairs, "interchange", budget_bytes=budget_bytes)
        assert len(batches.prefix) == 8
        batch = batches.batch(torch.arange(len(pairs)))
        logits = model(batch.tokens, masks, batch.ablated, batch.targets, batch.prefix)
        close(logits, expected, **TOLERANCE)
        (ours,) = torch.autograd.grad(logits.square().sum(), masks)
        close(ours, gradient, rtol=1e-4, atol=1e-4)


def test_a_shared_start_ends_before_any_fork() -> None:
    pairs = forked([11])
    pairs = replace(pairs, corrupted=pairs.clean)
    assert pairs.common_start() == 10
    last = replace(pairs, targets=pairs.targets[:, -1:], answers=pairs.answers[:, -1:])
    assert last.common_start() == 11


def test_passes_are_counted_as_torch_counts_them(case: Case) -> None:
    """The full and the corrupted run, the masked pass and its gradient."""
    model, pairs = case.model, forked([4, 2, 3])
    forks = Prefix().before(pairs.forks)
    mask = random_soft_masks(model.graph, 1)[0].requires_grad_()
    model.flops = 0
    with counted_by_torch() as counter:
        model(pairs.clean, targets=pairs.targets, prefix=forks)
        ablated = model.activations(pairs.corrupted, forks)
        model(pairs.clean, mask, ablated, pairs.targets, forks).square().sum().backward()
    assert model.flops == counter.get_total_flops()


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("build", [toys.gpt2, toys.llama])
def test_the_evaluator_gives_metrics_of_products_of_probabilities(
    build: Any, ablation: Ablation
) -> None:
    model, task = build(), year_task(ablation)
    masks = random_masks(model.graph, 5, density=0.6)
    found = evaluate(
        model,
        task.test,
        circuits_of(masks, model.graph),
        metrics=task.metrics,
        ablation=ablation,
    )
    logits = one_by_one(model, task.test, masks, ablation)
    full = full_logits(model, task.test)
    for name, metric in task.metrics.items():
        close(found[name], metric(logits, full, task.test), **TOLERANCE)


@pytest.mark.parametrize("build", [toys.gpt2, toys.llama])
def test_eap_scores_are_the_gradients_of_what_continuations_give(build: Any) -> None:
    model, task = build(), year_task()
    scores = EAP().discover(model, task, generator=torch.Generator())
    mask = torch.ones(1, *model.graph.legal.shape, dtype=model.dtype, requires_grad=True)
    logits = one_by_one(model, task.train, mask)
    loss = task.attribution_loss(logits, logits[0].detach(), task.train).mean()
    expected = -torch.autograd.grad(loss, mask)[0][0] * model.graph.legal
    close(scores.extra["signed"], expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_acdc_removes_the_edges_that_it_removes_with_one_pass_for_each_continuation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, task = toys.gpt2(n_layer=1), year_task()
    search, full = ACDC(threshold=0.02), full_logits(model, task.train)

    def loss(objective: Objective, masks: Tensor) -> list[float]:
        logits = one_by_one(model, task.train, masks)
        return task.training_loss(logits, full, task.train).double().mean(-1).tolist()

    found = search.discover(model, task, generator=torch.Generator())
    monkeypatch.setattr(Objective, "__call__", loss)
    expected = search.discover(model, task, generator=torch.Generator())
    assert 0 < found.n_edges < model.graph.n_edges
    assert torch.equal(found.mask, expected.mask)


@pytest.mark.parametrize("build", [toys.gpt2, toys.llama])
def test_edge_pruning_trains_on_the_gradient_of_what_continuations_give(build: Any) -> None:
    model, task = build(), year_task()
    pruning = EdgePruning(steps=4, warmup_steps=1, target_warmup_steps=2, batch_size=3)
    training = pruning.training(model, task, torch.Generator().manual_seed(0))
    masks, drawn = random_soft_masks(model.graph, 1).to(model.dtype), torch.tensor([2, 0, 3])
    gradient = training.gradient(masks.requires_grad_(), drawn)
    full = full_logits(model, task.train)[drawn]
    logits = one_by_one(model, task.train[drawn], masks)
    loss = task.training_loss(logits, full, task.train[drawn]).mean()
    close(gradient, torch.autograd.grad(loss, masks)[0], rtol=1e-4, atol=1e-6)
    circuit = pruning.complete(training)
    assert isinstance(circuit, Circuit)


def test_a_fork_outside_its_prompt_is_an_error() -> None:
    pairs = forked([4, 2, 3])
    assert pairs.forks is not None
    for wrong in (torch.zeros(3, dtype=torch.long), pairs.lengths + 1):
        with pytest.raises(ValueError, match="a fork lies outside its prompt; expected a token"):
            replace(pairs, forks=wrong)


def test_mean_ablation_of_prompts_that_fork_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mean ablation of prompts that fork: .* or zero"):
        replace(year_task(), ablation="mean")
    with pytest.raises(ValueError, match=r"mean ablation of prompts that fork: .* or zero"):
        Batches(toys.gpt2(), year_task().test, "mean")


def test_the_mean_of_all_tokens_is_taken_of_continuations_alone() -> None:
    model, pairs = toys.gpt2(), forked([4, 2, 3])
    assert pairs.forks is not None
    found: list[Tensor] = []
    for tokens, fork in zip(pairs.corrupted, pairs.forks.tolist(), strict=True):
        found.append(model.activations(tokens[None, :fork])[0])
        for place in range(fork, fork + 3):
            alone = torch.cat([tokens[:fork], tokens[place, None]])
            found.append(model.activations(alone[None])[0, -1:])
    close(mean_of_positions(model, pairs), torch.cat(found).mean(0), **TOLERANCE)


def test_prompts_of_a_model_that_is_not_causal_cannot_fork(case: Case) -> None:
    case.model.architecture.causal = False
    with pytest.raises(ValueError, match="is not causal: no prompt may fork"):
        Batches(case.model, forked([3, 3]), "zero")
